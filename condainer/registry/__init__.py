"""Registries: images by address in OCI repositories."""
