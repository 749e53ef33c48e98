"""Counts how many things fit side by side on a screen."""

from __future__ import annotations

LABELS = 34  # columns for the names of metrics and keys
COLUMN = 13  # columns that a run has at least
MAX_RUNS = 8  # as many colours as people can tell apart


def max_compared(width: int) -> int:
    """Return how many runs fit side by side in this many columns; at least two."""
    return max(2, min(MAX_RUNS, (width - LABELS) // COLUMN))
