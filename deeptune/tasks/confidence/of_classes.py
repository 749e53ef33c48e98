"""Confidence in predicted classes and labels: calibrated probabilities, expected errors and conformal sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deeptune.tasks.confidence.calibrator_choice import CalibratorChoice
from deeptune.tasks.confidence.calibrators import Calibrator
from deeptune.tasks.confidence.conformal import Quantiles, in_set, rows_needed
from deeptune.tasks.confidence.expected_error import ExpectedError
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.metric_functions import calibration_bins, calibration_error, class_log_losses


@dataclass(frozen=True)
class ClassConfidence:
    """The confidence of a trained classifier, fitted to val and stored in labels.json.

    `quantiles` are those of conformal sets at `coverage` and others; labels of an earlier version have none. `losses`
    has the cross-validated log loss of each calibrator that was compared, and `notes` are sentences.
    """

    calibrator: Calibrator
    errors: ExpectedError
    coverage: float
    quantiles: Quantiles | None = None
    losses: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        choice: CalibratorChoice,
        errors: ExpectedError,
        coverage: float,
        quantiles: Quantiles,
        every: str = "every class",
    ) -> ClassConfidence:
        """Build from the choice of a calibrator, with a note where the coverage needs more rows."""
        notes = choice.notes
        if not np.isfinite(quantiles.at(coverage)):
            notes = (*notes, too_few(coverage, "set", every))
        return cls(choice.calibrator, errors, coverage, quantiles, tuple(choice.losses.items()), notes)

    def sets(self, scores: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Return the classes in the set of each row, bool (N, C)."""
        assert self.quantiles is not None
        return in_set(scores, probabilities, self.quantiles.at(self.coverage))

    @property
    def about(self) -> dict[str, Any]:
        """Return facts for metrics.json."""
        return {
            "calibrator": self.calibrator.method,
            "temperatures": list(self.calibrator.temperatures),
            "notes": list(self.notes),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "coverage": self.coverage,
            "calibrator": self.calibrator.to_json(),
            "cross_validated_log_loss": dict(self.losses),
            "expected_error": self.errors.to_json(),
            "quantiles": None if self.quantiles is None else self.quantiles.to_json(),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClassConfidence:
        return cls(
            Calibrator.from_json(data["calibrator"]),
            ExpectedError.from_json(data["expected_error"]),
            float(data["coverage"]),
            None if data["quantiles"] is None else Quantiles.from_json(data["quantiles"]),
            tuple((str(name), float(loss)) for name, loss in data["cross_validated_log_loss"].items()),
            tuple(map(str, data["notes"])),
        )


def fit_quantiles(scores: np.ndarray, held_out: HeldOut, coverage: float) -> Quantiles:
    """Fit quantiles to the scores of the true classes, from the scores (N, C) of all classes."""
    return Quantiles.fit(scores[np.arange(len(held_out)), held_out.truth], coverage, held_out.groups)


def set_metrics(inside: np.ndarray, truth: np.ndarray, coverage: float) -> dict[str, Any]:
    """Score sets (bool (N, C)): how many hold the truth, int64 (N,), and how large they are; N > 0."""
    return size_metrics(inside, inside[np.arange(len(truth)), truth], coverage)


def size_metrics(inside: np.ndarray, covered: np.ndarray, coverage: float) -> dict[str, Any]:
    """Score sets (bool (N, C)): how many are `covered` (bool (N,)), and how large they are; N > 0."""
    sizes = inside.sum(axis=1)
    return {
        "coverage": coverage,
        "covered": float(covered.mean()),
        "mean_set_size": float(sizes.mean()),
        "set_sizes": np.bincount(sizes, minlength=inside.shape[1] + 1).tolist(),
    }


def class_metrics(before: np.ndarray, after: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Score probabilities (N, C) before and after calibration against class indices (N,); N > 0.

    `uncalibrated` has log loss and calibration error before. `confidence` has the area under the risk-coverage curve,
    and the bins of a reliability diagram after and before.
    """
    sure, correct = _sure(after, truth)
    return {
        "uncalibrated": {
            "log_loss": float(class_log_losses(before, truth).mean()),
            "ece": calibration_error(*_sure(before, truth)),
        },
        "confidence": {
            "aurc": area_under_risk(sure, correct),
            "reliability": reliability_bins(sure, correct),
            "reliability_uncalibrated": reliability_bins(*_sure(before, truth)),
        },
    }


def _sure(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence of each prediction, and whether it is right."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth


def reliability_bins(confidence: np.ndarray, correct: np.ndarray) -> list[dict[str, float]]:
    """Return the `calibration_bins` that hold rows, as rows of JSON."""
    found = zip(*(values.tolist() for values in calibration_bins(confidence, correct)), strict=True)
    names = ("rows", "confidence", "accuracy")
    return [dict(zip(names, row, strict=True)) for row in found if row[0]]


def set_column(inside: np.ndarray, values: pa.Array) -> pa.Array:
    """Return the list of the classes in each row's set, in their order."""
    rows, classes = np.nonzero(inside)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(inside)))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.take(pa.array(classes)))


def risk_curve(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of rows that is kept, and the error among them, as the least sure rows are left out.

    See Geifman & El-Yaniv 2017 (https://arxiv.org/abs/1705.08500). Rows of equal confidence are kept or left out
    together.
    """
    order = np.argsort(-confidence, kind="stable")
    kept = np.arange(1, len(order) + 1)
    risk = np.cumsum(~correct[order]) / kept
    last = np.append(np.diff(confidence[order]) != 0, True)
    return kept[last] / len(order), risk[last]


def area_under_risk(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Return AURC: the mean error among the rows kept, over all rows as the last one kept; N > 0."""
    share, risk = risk_curve(confidence, correct)
    return float(np.diff(share, prepend=0) @ risk)


def too_few(coverage: float, what: str, trivial: str) -> str:
    """Return a sentence for fewer held-out rows than a quantile at this coverage needs."""
    return (
        f"too few rows were held out for {what}s at a coverage of {coverage:g}, which need {rows_needed(coverage)} of "
        f"them (or as many groups): each {what} holds {trivial}"
    )
