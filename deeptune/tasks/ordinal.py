"""Ordinal classification: one of several classes that have an order, such as grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
import scipy  # its parts are imported where they are first used

from deeptune.errors import DataError, SpecError, listed
from deeptune.spec.run_spec import DataSpec
from deeptune.spec.tasks import TASKS
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.confidence.conformal import rank_scores
from deeptune.tasks.label_columns import plain, whole_numbers

TINY = 1e-30  # below every probability that matters


@dataclass(frozen=True)
class OrdinalTask(ClassificationTask):
    """One class for each sample, from the lowest to the highest: by number, or as `data.label_order` has them.

    Targets are ranks (int64 (N,)), -1 for a missing label. A model has an output for each class but the lowest: the log
    odds that a sample is at least of that class (McCullagh 1980). They fall from class to class, as all have one score
    and thresholds that rise (`model.head.OrderedLinear`).
    """

    info = TASKS["ordinal"]

    @classmethod
    def check_type(cls, column: pa.ChunkedArray, *, name: str, place: str = "data.label") -> None:
        whole = whole_numbers(plain(column))
        super().check_type(whole if pt.is_integer(whole.type) else column, name=name, place=place)

    @classmethod
    def fit_labels(
        cls, column: pa.ChunkedArray, *, data: DataSpec, label_names: Sequence[str] | None, name: str
    ) -> Self:
        found = cls.fit(column, label_names=label_names, name=name, many=data.many_classes)
        if data.label_order is None:
            if isinstance(found.values[0], str):
                raise DataError(
                    f"data.label: the classes of column {name!r} are words, whose order is not known: "
                    f"{listed(found.values)}",
                    hint="Set data.label_order to the classes from the lowest to the highest.",
                )
            return found
        return found._ordered(data.label_order, name)

    def _ordered(self, order: Sequence[str], name: str) -> Self:
        """Return the classes in the order of their values, or of their names, in `order`."""
        for known in (tuple(map(str, self.values)), self.names):
            if known is not None and set(order) == set(known):
                return self._only(np.array([known.index(one) for one in order]))
        classes = set(map(str, self.values))
        unknown, absent = [one for one in order if one not in classes], sorted(classes - set(order))
        parts = [f"no row is of {one!r}" for one in unknown] + [f"{one!r} is not in it" for one in absent]
        raise DataError(
            f"data.label_order: {listed(parts)}", hint=f"Name each class of column {name!r} once, the lowest first."
        )

    @property
    def outputs(self) -> int:
        return len(self.values) - 1

    def constant_logits(self, targets: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
        share = np.maximum(self.counts(targets).astype(np.float64), 1e-6)
        above = 1 - np.cumsum(share / share.sum())[:-1]
        return scipy.special.logit(np.clip(above, 1e-6, 1 - 1e-6)).astype(np.float32)

    def explained_output(self, logits: np.ndarray) -> np.ndarray:
        return np.full(len(logits), -1, np.int64)  # all classes share one score

    def output_of(self, name: str) -> int:
        raise SpecError(
            f"ordinal classes share one score, which is what is explained, not {name!r}", hint="Leave out --of."
        )

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Log probabilities of the classes: a temperature of these leaves the most probable class what it is."""
        return np.log(np.maximum(self.uncalibrated(logits), TINY))

    def set_scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Score ranks so that sets have no gap."""
        return rank_scores(probabilities)

    def uncalibrated(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities, float64 (N, classes), from those (N, classes - 1) of being at least of a class."""
        at_least = scipy.special.expit(logits.astype(np.float64))
        ends = np.ones((len(logits), 1))
        return -np.diff(np.concatenate([ends, at_least, 0 * ends], axis=1), axis=1)

    def baseline(self, truth: np.ndarray, train: np.ndarray) -> dict[str, Any]:
        """Score as for classes. The kappa of a constant is 0, and its error in ranks is that of train's median."""
        constant = {
            "quadratic_weighted_kappa": 0.0,
            "rank_mae": float(np.abs(truth - np.median(train)).mean()) if len(truth) else None,
        }
        return constant | super().baseline(truth, train)
