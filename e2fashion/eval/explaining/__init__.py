"""Where an encoder looks in one picture."""
