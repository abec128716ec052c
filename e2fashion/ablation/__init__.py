"""Several runs and the report that sets them side by side: ablations, comparisons, the rows of an experiment."""
