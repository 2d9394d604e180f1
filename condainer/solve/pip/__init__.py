"""What pip adds to the conda packages of a solution."""
