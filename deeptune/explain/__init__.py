"""What in a sample speaks for a prediction, and tests of whether that explanation is better than chance."""
