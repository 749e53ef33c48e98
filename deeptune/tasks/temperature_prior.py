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


# Of models whose backbone learned: what is right on test, on sets of images and texts (docs/results.md). The longer a
# model learns from few rows, the surer it is of itself.
FINE_TUNED = Prior(1.2, 0.4)
FEW_EPOCHS = Prior(0.9, 0.6)
MIN_EPOCHS = 10  # from which on FINE_TUNED holds: what few rows have


def prior_after(epochs: int) -> Prior:
    """Choose the prior of a model whose backbone learned for so many epochs at most."""
    return FINE_TUNED if epochs >= MIN_EPOCHS else FEW_EPOCHS
