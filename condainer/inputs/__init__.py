"""environment.yml and requirements.txt as values."""
