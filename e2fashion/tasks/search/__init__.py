"""Find products by text, image or both in an index on disk."""
