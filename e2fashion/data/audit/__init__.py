"""Is a catalogue fit to train on? What ``data check`` looks for."""
