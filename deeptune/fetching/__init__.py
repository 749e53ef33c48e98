"""Finds weights, says what a run would fetch, and brings them to a machine. Imports nothing heavy."""

from deeptune.fetching.planned import Fetch, fetch_of, weights_to_fetch

__all__ = ["Fetch", "fetch_of", "weights_to_fetch"]
