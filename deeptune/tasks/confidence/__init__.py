"""What val says of a trained model's predictions: calibrated probabilities, expected errors, sets and intervals.

Everything here is fitted to val once, stored with the task in labels.json, and never sees a test row.
"""
