"""Zero-shot classification and tag prediction: classifiers, thresholds, records, tables, confusion figures."""
