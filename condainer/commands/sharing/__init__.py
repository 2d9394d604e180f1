"""Images and packages for others, and for machines without network."""
