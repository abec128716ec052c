"""Where products come from: one file per origin, one registry line each."""
