"""Zero-shot classification and tags: records, tables, confusion, and the files of predictors."""
