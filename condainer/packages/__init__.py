"""Packages: which may be fetched, from where; downloaded, checked and linked."""
