"""Images and packages as single files, and packages fetched in advance."""
