"""What experiments share: the command line, runs of a data set at a scale, and the views of their records."""
