"""Samples and features as data sets, in batches."""
