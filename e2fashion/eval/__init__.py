"""Protocols that turn a model and a catalogue into records, and the views of those records."""
