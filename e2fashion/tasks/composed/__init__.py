"""Text-guided image retrieval: a picture and what shall be different become one query."""
