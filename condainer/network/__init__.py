"""Servers: which hosts URLs lead to, names and passwords, downloads, and an end to silence."""
