"""Images by address in OCI repositories and web caches: pushed, pulled, signed."""
