"""What an environment consists of, for those who have to account for it: bills, vulnerabilities."""
