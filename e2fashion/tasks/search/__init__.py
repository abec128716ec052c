"""Find products by text, picture or both in an index on disk."""
