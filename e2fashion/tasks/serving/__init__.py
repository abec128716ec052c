"""An encoder and an index as an HTTP service."""
