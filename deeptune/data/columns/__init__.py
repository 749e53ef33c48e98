"""Which columns are the input, the label, kept beside embeddings or read by the report."""
