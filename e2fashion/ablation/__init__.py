"""Several runs and their joint report: ablations, comparisons, the rows of an experiment."""
