"""Images afterwards: list, show, remove, share, collect, verify, sign."""
