"""The roles of columns: input, label, kept beside embeddings, or read by the report."""
