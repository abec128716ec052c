"""What a trained encoder is used for: a folder each with method, measurement, table and figures."""
