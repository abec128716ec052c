"""Text-guided image retrieval: an image and a text of what shall differ from it are one query."""
