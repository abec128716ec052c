"""Retrieval between images and texts: protocols, candidate lists, rankings, and their breakdown."""
