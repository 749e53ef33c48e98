"""What is known of a temperature before any row is seen. Needs no SciPy, so that a run starts without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prior:
    """A normal prior of the logarithm of a temperature."""

    mean: float
    spread: float

    def surprise(self, log: float) -> float:
        """Return the negative log density at the logarithm of a temperature, up to a constant."""
        return ((log - self.mean) / self.spread) ** 2 / 2


# Of models whose backbone learned: what is right on test, on sets of images and texts (docs/results.md).
FINE_TUNED = Prior(0.9, 0.6)
