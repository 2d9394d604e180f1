"""Images in other programs."""
