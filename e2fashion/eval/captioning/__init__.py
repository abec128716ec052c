"""Captions measured: records, tables, and a sheet to read."""
