"""Multi-label classification: any number of labels for each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
import scipy  # its parts are imported where they are first used

from deeptune.arrow import in_words, is_lists
from deeptune.errors import DataError, listed
from deeptune.spec.run_spec import CalibrationSpec, DataSpec, TrainSpec
from deeptune.spec.tasks import TASKS
from deeptune.tasks.base import EXAMPLE_SHARE, Fitted, Task, wilson_text
from deeptune.tasks.classification import ClassValue, lists
from deeptune.tasks.confidence.calibrator_choice import LabelLink, choose, moved_thresholds
from deeptune.tasks.confidence.conformal import Quantiles, label_scores
from deeptune.tasks.confidence.expected_error import ExpectedError
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.confidence.of_classes import (
    ClassConfidence,
    area_under_risk,
    reliability_bins,
    set_column,
    size_metrics,
)
from deeptune.tasks.iterative_split import iterative_split
from deeptune.tasks.label_columns import LabelTypeError, list_parts, plain, refuse_flags, refuse_missing
from deeptune.tasks.metric_functions import calibration_error, log_losses, multilabel_metrics

DEFAULT_THRESHOLD = 0.5
MIN_SHARE = 1e-3  # least share of a label in a constant prediction, so that its log odds are finite


@dataclass(frozen=True)
class MultiLabelTask(Task):
    """Any number of labels for each sample, each predicted where its probability reaches its threshold.

    `values` are sorted, or the columns of `data.label` in their order. Targets are int8 (N, L): 1 where a sample has
    the label, and -1 in all of a row whose labels are missing. A model has an output for each label, whose sigmoid is
    its probability. `thresholds` are chosen on val.
    """

    info = TASKS["multilabel"]
    CONSTANT = "the share of each label in the training split"
    COMPARABLE = "probabilities"
    TRAIN_NEEDS = "holds a row of every label"

    values: tuple[ClassValue, ...]
    thresholds: tuple[float, ...] = ()
    confidence: ClassConfidence | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.values)

    # From labels to targets

    @classmethod
    def check_type(cls, column: pa.ChunkedArray, *, name: str, place: str = "data.label") -> None:
        if not is_lists(column.type) or not _is_label(plain(column).type.value_type):
            raise LabelTypeError(
                f"{place}: column {name!r} holds {in_words(column.type)}, and multilabel needs lists of strings or "
                "integers",
                hint='Name such a column, or several columns of 0 and 1: data.label = ["a", "b"].',
            )

    @classmethod
    def gather(cls, columns: Mapping[str, pa.ChunkedArray], *, place: str) -> pa.ChunkedArray:
        """Return the names of the columns that hold 1 (or true) in each row; null where one of them is missing."""
        flags = []
        for name, column in columns.items():
            known = column.drop_null()
            if not pt.is_boolean(column.type):
                zero_or_one = pt.is_integer(column.type) or pt.is_floating(column.type)
                if not zero_or_one or not pc.all(pc.or_(pc.equal(known, 0), pc.equal(known, 1))).as_py():
                    raise DataError(
                        f"{place}: column {name!r} of data.label holds other values than 0 and 1",
                        hint="Each of several label columns says whether a sample has that label: 0, 1, true or false.",
                    )
            flags.append(pc.fill_null(column.cast(pa.float64()).combine_chunks(), np.nan).to_numpy())
        table = np.stack(flags, axis=1)
        absent = np.isnan(table).any(axis=1)
        return _as_lists(np.where(absent[:, None], 0, table) > 0, pa.array(list(columns)), absent)

    @classmethod
    def fit_labels(
        cls, column: pa.ChunkedArray, *, data: DataSpec, label_names: Sequence[str] | None, name: str
    ) -> Self:
        if isinstance(data.label, list):
            return cls._with(tuple(data.label))
        return cls.fit(column, name=name)

    @classmethod
    def fit(cls, column: pa.ChunkedArray, *, name: str = "labels") -> Self:
        """Return the labels that occur in a list column without missing lists.

        Raises DataError where there are none.
        """
        cls.check_type(column, name=name)
        refuse_flags(column, name)
        _, found = list_parts(plain(column))
        values = sorted(found.unique().drop_null().to_pylist())
        if not values:
            raise DataError(
                f"data.label: every list of column {name!r} is empty", hint="Name the column that holds the labels."
            )
        return cls._with(tuple(values))

    @classmethod
    def _with(cls, values: tuple[ClassValue, ...]) -> Self:
        return cls(values, (DEFAULT_THRESHOLD,) * len(values))

    def fit_splits(self, targets: Mapping[str, np.ndarray], *, train: TrainSpec, name: str) -> Fitted:
        """Refuse training rows without any label; a label that only some splits have is warned of by its counts."""
        if not self.counts(targets["train"]).any():
            raise DataError(
                f"data.label: no training row has a label of column {name!r}", hint="There is nothing to learn."
            )
        return Fitted(self, dict(targets))

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.array(self.values[:1]).type

    def encode(
        self,
        column: pa.ChunkedArray,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "labels",
        place: str = "data.label",
    ) -> np.ndarray:
        self.check_type(column, name=name, place=place)
        refuse_missing(column, name, place)
        lists = plain(column)
        _, found = list_parts(lists)
        if found.null_count:
            raise DataError(
                f"{place}: {found.null_count:,} values inside the lists of column {name!r} are null",
                hint="Take them out of the lists: a sample without labels has an empty list.",
            )
        if len(found) and found.type != self.arrow_type:
            raise DataError(
                f"{place}: column {name!r} holds lists of {found.type}, but the labels are {self.arrow_type}: "
                f"{listed(self.values)}",
                hint="Labels must be of the same type everywhere.",
            )
        unknown = sorted(set(found.unique().to_pylist()) - set(self.values))
        if unknown:
            what = "a label that does" if len(unknown) == 1 else f"{len(unknown):,} labels that do"
            raise DataError(
                f"{place}: column {name!r} has {what} not occur in the training data: {listed(map(repr, unknown))}",
                hint=f"Known labels: {listed(self.class_names)}. Leave such rows out, or train on them too.",
            )
        return self.find(column)

    def find(self, column: pa.ChunkedArray, *, label_names: Sequence[str] | None = None) -> np.ndarray:
        """Find targets of lists; -1 in the rows of missing ones. Labels that are unknown are left out."""
        column = plain(column)
        targets = np.zeros((len(column), len(self)), np.int8)
        rows, found = list_parts(column)
        if found.type == self.arrow_type:
            index = pc.fill_null(pc.index_in(found, value_set=pa.array(self.values), skip_nulls=True), -1).to_numpy()
            targets[rows[index >= 0], index[index >= 0]] = 1
        targets[pc.is_null(column).to_numpy()] = -1
        return targets

    def decode(self, targets: np.ndarray) -> pa.Array:
        """Return a list of labels for each row, in the order of labels.json; null for a missing one."""
        return _as_lists(targets > 0, pa.array(self.values), np.any(targets < 0, axis=1)).combine_chunks()

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.info.name,
            "values": list(self.values),
            "names": None,
            "thresholds": list(self.thresholds),
            **({} if self.confidence is None else {"confidence": self.confidence.to_json()}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        found = data.get("confidence")
        confidence = None if found is None else ClassConfidence.from_json(found)
        return cls(tuple(data["values"]), tuple(map(float, data["thresholds"])), confidence=confidence)

    # Splits

    @cached_property
    def class_names(self) -> Sequence[str]:
        return tuple(map(str, self.values))

    def groups(self, targets: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Group rows by their label; those with several labels, and those with none, are groups of their own."""
        count = (targets > 0).sum(axis=1)
        group = np.where(count == 1, (targets > 0).argmax(axis=1), len(self) + (count == 0))
        group[(targets < 0).any(axis=1)] = -1
        return group, [*self.class_names, "several labels", "no label"]

    def counts(self, targets: np.ndarray) -> np.ndarray:
        return (targets > 0).sum(axis=0)

    @classmethod
    def strata(cls, targets: np.ndarray, bins: int, rng: np.random.Generator) -> np.ndarray:
        """Return the rarest label of each row, for rows that stay together in groups."""
        count = (targets > 0).sum(axis=0)
        rarity = np.where(targets > 0, count, len(targets) + 1)
        return np.unique(np.where((targets > 0).any(axis=1), rarity.argmin(axis=1), -1), return_inverse=True)[1]

    @classmethod
    def assign(cls, targets: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        return iterative_split(targets > 0, share, rng)

    @classmethod
    def needed_in_train(cls, group: np.ndarray, targets: np.ndarray) -> np.ndarray:
        needs = np.zeros((targets.shape[1], group.max() + 1), bool)
        rows, labels = np.nonzero(targets > 0)
        needs[labels, group[rows]] = True
        return needs[needs.any(axis=1)]

    def uncertainty(self, rows: int) -> str:
        return f"a recall of {EXAMPLE_SHARE:.2f} on all of them has a 95% interval of {wilson_text(rows)}"

    # The model

    @property
    def outputs(self) -> int:
        return len(self.values)

    def model_targets(self, targets: np.ndarray) -> np.ndarray:
        """Return targets, float32 (N, L), 0 or 1."""
        return targets.astype(np.float32)

    def constant_logits(self, targets: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
        share = self.counts(targets) / max(1, len(targets))
        return scipy.special.logit(np.clip(share, MIN_SHARE, 1 - MIN_SHARE)).astype(np.float32)

    def explained_output(self, logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=1)

    def comparable(self, logits: np.ndarray) -> np.ndarray:
        return self.probabilities(logits)

    def with_thresholds(self, logits: np.ndarray, truth: np.ndarray) -> Self:
        """Choose the threshold of each label that has the highest F1 on these rows."""
        chances, positive = self.probabilities(logits), truth > 0
        found = [best_threshold(positive[:, label], chances[:, label]) for label in range(len(self))]
        return replace(self, thresholds=tuple(found))

    # Predictions and scores

    def uncalibrated(self, logits: np.ndarray) -> np.ndarray:
        """Return the model's own probabilities, float64 (N, L)."""
        return np.asarray(scipy.special.expit(logits.astype(np.float64)))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities, float64 (N, L), each between 0 and 1; calibrated where val has shown how."""
        if self.confidence is None or self.confidence.calibrator.method == "none":
            return self.uncalibrated(logits)
        return self.confidence.calibrator.of_labels(logits)

    def decide(self, probabilities: np.ndarray, *, votes: bool = False) -> np.ndarray:
        """Predict each label from its threshold on, or with `votes` from half of them on: int8 (N, L)."""
        return (probabilities >= (0.5 if votes else np.array(self.thresholds))).astype(np.int8)

    def predictions(self, logits: np.ndarray) -> dict[str, pa.Array]:
        """Return `prediction`, the list of labels, and `probabilities` in the order of labels.json.

        With what was fitted to val also `confidence`, that of the least sure label, the `expected_error` of each
        label, and `prediction_set`, among which all labels of a row are at the stored coverage.
        """
        chances = self.probabilities(logits)
        columns = {"prediction": self.decode(self.decide(chances)), "probabilities": lists(chances)}
        if self.confidence is not None:
            columns["confidence"] = pa.array(self._sure(chances).min(axis=1))
            columns["expected_error"] = lists(self.confidence.errors.at(self._sure(chances)))
            if (inside := self._sets(chances)) is not None:
                columns["prediction_set"] = set_column(inside, pa.array(self.values, self.arrow_type))
        return columns

    def score(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        return multilabel_metrics(truth > 0, self.probabilities(logits), self.values, self.thresholds)

    def baseline(self, truth: np.ndarray, train: np.ndarray) -> dict[str, Any]:
        """Score every label for every row (F1), or each label where more than half of train has it (Hamming loss).

        The ROC AUC of a constant is 0.5, and its average precision the share of the label.
        """
        positive, always = truth > 0, np.ones(truth.shape)
        metrics = multilabel_metrics(positive, always, self.values, (DEFAULT_THRESHOLD,) * len(self))
        usual = np.broadcast_to(self.counts(train) / max(1, len(train)), truth.shape)
        majority = multilabel_metrics(positive, usual, self.values, (DEFAULT_THRESHOLD,) * len(self))
        names = [name for name in self.info.metrics if metrics[name] is not None]
        return {name: metrics[name] for name in names} | {"hamming_loss": majority["hamming_loss"]}

    # Confidence

    def _sure(self, chances: np.ndarray) -> np.ndarray:
        """Return the probability (N, L) that each label is there where it is predicted, and absent where it is not."""
        return np.where(chances >= np.array(self.thresholds), chances, 1 - chances)

    def with_confidence(self, held_out: HeldOut, calibration: CalibrationSpec) -> Self:
        """Add a calibrator for each label, and the expected error over all labels together.

        The thresholds move with the probabilities. Expected errors and the quantiles of sets are fitted to
        probabilities of each row from calibrators that were fitted to other rows.
        """
        has = held_out.truth > 0
        choice = choose(LabelLink(self.thresholds), replace(held_out, truth=has), calibration.method)
        thresholds = moved_thresholds(choice.calibrator, np.array(self.thresholds))
        moved = replace(self, thresholds=tuple(map(float, thresholds)))
        chances = choice.probabilities
        correct = (chances >= thresholds) == has
        errors = ExpectedError.fit(moved._sure(chances).reshape(-1), correct.reshape(-1))
        quantiles = Quantiles.fit(label_scores(chances, has), calibration.coverage, held_out.groups)
        found = ClassConfidence.of(choice, errors, calibration.coverage, quantiles, "every label")
        return replace(moved, confidence=found)

    @property
    def covers(self) -> bool:
        return self.confidence is not None and self.confidence.quantiles is not None

    def _sets(self, chances: np.ndarray) -> np.ndarray | None:
        """Return the labels in the set of each row, bool (N, L), among them the predicted ones.

        None without quantiles.
        """
        if self.confidence is None or self.confidence.quantiles is None:
            return None
        limit = self.confidence.quantiles.at(self.confidence.coverage)
        return np.asarray((1 - chances <= limit) | (chances >= np.array(self.thresholds)))

    def confidences(self, logits: np.ndarray) -> np.ndarray | None:
        """Return the confidence of the least sure label of each row."""
        return np.asarray(self._sure(self.probabilities(logits)).min(axis=1))

    def confidence_metrics(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        if self.confidence is None or not len(truth):
            return {}
        has, before, after = truth > 0, self.uncalibrated(logits), self.probabilities(logits)
        right = ((after >= np.array(self.thresholds)) == has).all(axis=1)
        found = {
            **self.confidence.about,
            "aurc": area_under_risk(self._sure(after).min(axis=1), right),
            **_label_calibration(after, has),
            "reliability": reliability_bins(after.reshape(-1), has.reshape(-1)),
            "reliability_uncalibrated": reliability_bins(before.reshape(-1), has.reshape(-1)),
        }
        if (inside := self._sets(after)) is not None:
            found |= size_metrics(inside, np.all(inside | ~has, axis=1), self.confidence.coverage)
        return {"uncalibrated": _label_calibration(before, has), "confidence": found}


def _label_calibration(chances: np.ndarray, has: np.ndarray) -> dict[str, float]:
    """Log loss and calibration error of probabilities (N, L) over all labels together."""
    losses = log_losses(np.where(has, chances, 1 - chances))
    return {"log_loss": float(losses.mean()), "ece": calibration_error(chances.reshape(-1), has.reshape(-1))}


def best_threshold(positive: np.ndarray, chance: np.ndarray) -> float:
    """Return the threshold (`chance >= threshold`) with the highest F1: midway between two probabilities that occur.

    Of equal ones the nearest to 0.5; 0.5 itself where no row is positive, or none is negative.
    """
    if not positive.any() or positive.all():
        return DEFAULT_THRESHOLD
    order = np.argsort(-chance, kind="stable")
    sorted_chance, hits = chance[order], np.cumsum(positive[order])
    last = np.append(np.diff(sorted_chance) != 0, True)  # the last row of each run of equal probabilities
    predicted = np.arange(1, len(chance) + 1)[last]
    f1 = 2 * hits[last] / (predicted + positive.sum())
    upper = sorted_chance[last]
    lower = np.append(upper[1:], 0.0)
    middle = (upper + lower) / 2
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(middle[best[np.abs(middle[best] - DEFAULT_THRESHOLD).argmin()]])


def _is_label(kind: pa.DataType) -> bool:
    return pt.is_integer(kind) or pt.is_string(kind) or pt.is_boolean(kind) or pt.is_null(kind)


def _as_lists(has: np.ndarray, values: pa.Array, absent: np.ndarray) -> pa.ChunkedArray:
    """Return a list of `values` for each row of `has` (bool (N, L)); null in the rows that are `absent`."""
    rows, labels = np.nonzero(has & ~absent[:, None])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(has)))]).astype(np.int32)
    found = values.take(pa.array(labels))
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), found, mask=pa.array(absent))])
