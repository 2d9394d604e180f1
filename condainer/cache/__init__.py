"""Images: squashfs file, entry, publishing, users, trust."""
