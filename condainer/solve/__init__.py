"""From inputs to a lock."""
