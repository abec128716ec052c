"""The E2 encoder, its configuration, and the ways in from other checkpoints."""
