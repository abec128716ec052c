"""Chores without science."""
