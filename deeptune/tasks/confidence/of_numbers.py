"""Confidence in predicted numbers: the expected error, and intervals that hold the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeptune.tasks.confidence.conformal import Quantiles, Scale
from deeptune.tasks.confidence.held_out import HeldOut, out_of_fold
from deeptune.tasks.confidence.of_classes import too_few

MIN_ROWS = 10  # rows of val, or groups, that a scale that varies needs
CURVE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # coverages that are compared with what intervals cover


@dataclass(frozen=True)
class NumberConfidence:
    """The confidence of a trained regression, fitted to val and stored in labels.json.

    The score of a row is its absolute error in units of the error that is usual for the predicted number (locally
    weighted split conformal prediction, Lei et al. 2018, https://arxiv.org/abs/1604.04173). `notes` are sentences.
    """

    scale: Scale
    quantiles: Quantiles
    coverage: float
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, predicted: np.ndarray, held_out: HeldOut, coverage: float) -> NumberConfidence:
        """Fit to predicted numbers (N,) in the unit of `held_out.truth`, N > 0.

        Scores are computed with scales that were fitted to other rows.
        """
        error = np.abs(held_out.truth - predicted)
        scale = Scale.fit(predicted, error)

        def usual(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
            return Scale.fit(predicted[others], error[others]).at(predicted[inside])

        enough = held_out.unit.max() + 1 >= MIN_ROWS
        own = out_of_fold(held_out.folds(), usual) if enough else scale.at(predicted)
        quantiles = Quantiles.fit(error / own, coverage, held_out.groups)
        few = not np.isfinite(quantiles.at(coverage))
        return cls(scale, quantiles, coverage, (too_few(coverage, "interval", "every number"),) if few else ())

    def half_width(self, predicted: np.ndarray, coverage: float | None = None) -> np.ndarray:
        """Return half the width of the interval around each predicted number, at the stored coverage or another one."""
        return self.quantiles.at(self.coverage if coverage is None else coverage) * self.scale.at(predicted)

    def metrics(self, predicted: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Score intervals: how many hold the truth (float64 (N,)), and how wide they are; N > 0.

        `curve` has rows of coverage and the share that is covered.
        """
        error, width = np.abs(truth - predicted), 2 * self.half_width(predicted)
        reached = [one for one in CURVE if np.isfinite(self.quantiles.at(one))]
        curve = [(one, float((error <= self.half_width(predicted, one)).mean())) for one in reached]
        return {
            "coverage": self.coverage,
            "covered": float((error <= width / 2).mean()),
            "mean_width": float(width.mean()) if np.isfinite(width).all() else None,
            "curve": [list(row) for row in curve],
            "notes": list(self.notes),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "coverage": self.coverage,
            "scale": self.scale.to_json(),
            "quantiles": self.quantiles.to_json(),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NumberConfidence:
        return cls(
            Scale.from_json(data["scale"]),
            Quantiles.from_json(data["quantiles"]),
            float(data["coverage"]),
            tuple(map(str, data["notes"])),
        )
