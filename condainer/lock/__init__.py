"""The lock as a value, its files, and its content address."""
