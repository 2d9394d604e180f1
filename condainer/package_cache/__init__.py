"""The package cache: where its files stand, who is using it, and what is removed from it."""
