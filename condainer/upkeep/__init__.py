"""What keeps a cache in order: collecting and removing images, sharing, a report."""
