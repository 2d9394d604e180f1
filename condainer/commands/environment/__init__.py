"""What makes, uses and tells of a project's environment."""
