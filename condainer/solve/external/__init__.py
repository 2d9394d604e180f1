"""Solving by a conda, mamba or micromamba that the user names."""
