"""Servers: reached with names and passwords, and given up when they are silent."""
