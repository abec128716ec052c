"""From a configuration to a trained encoder: objects, stages, optimization, callbacks, loggers."""
