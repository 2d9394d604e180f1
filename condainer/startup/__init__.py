"""What runs before anything else is imported: stamps, mount table, claims, mounting, exec."""
