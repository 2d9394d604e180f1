"""Images in other programs: what these have to be told to start theirs in an image."""
