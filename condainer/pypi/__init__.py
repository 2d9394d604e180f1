"""The PyPI side, by uv: indexes, wheels, and what packages from source need."""
