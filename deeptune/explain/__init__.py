"""Explanations of predictions, and tests of whether these are better than chance."""
