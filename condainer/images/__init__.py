"""Images afterwards: list, show, verify, sign, and what they consist of."""
