"""From an image to a mounted prefix: ways to mount, keepers, unmounting."""
