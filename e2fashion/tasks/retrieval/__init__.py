"""Retrieval between pictures and texts: protocols, candidate lists, rankings, and their breakdown."""
