"""Fault campaigns against the cache: `make torture` runs them at full length."""
