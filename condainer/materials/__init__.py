"""What an environment consists of: bills of materials, known vulnerabilities."""
