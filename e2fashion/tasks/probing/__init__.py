"""Linear probes: labels, fit, records, tables and figures."""
