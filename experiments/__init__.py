"""Claims: one small file per table or figure, with its command, its cost and its known deviations."""
