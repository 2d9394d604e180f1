"""What looks at the images of caches, and removes them."""
