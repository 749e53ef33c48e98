"""Which backbone fits a person's rows: heads on frozen features by cross-validation, and what they suggest."""
