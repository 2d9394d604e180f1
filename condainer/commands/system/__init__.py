"""What is needed here, completion, the version."""
