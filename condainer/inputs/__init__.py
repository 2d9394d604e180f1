"""environment.yml, requirements.txt and what stands in their place, as values."""
