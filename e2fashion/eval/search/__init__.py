"""Search measured: records, tables, and a sheet of what was found."""
