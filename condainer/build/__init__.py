"""From a lock to a finished prefix."""
