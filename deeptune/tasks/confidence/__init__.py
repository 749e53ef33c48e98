"""Confidence in a model's predictions, fitted to val: calibrated probabilities, expected errors, sets and intervals.

Everything here is fitted to val once, stored with the task in labels.json, and never sees a test row.
"""
