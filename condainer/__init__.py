"""Declarative Conda environments as content-addressed, compressed, shared images."""

__version__ = "1.0.0"
