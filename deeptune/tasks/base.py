"""The interface of a task. Everything that differs between tasks is behind it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa

from deeptune.errors import SpecError, did_you_mean, listed
from deeptune.spec.run_spec import CalibrationSpec, DataSpec, TrainSpec
from deeptune.spec.tasks import TaskInfo
from deeptune.tasks.confidence.held_out import HeldOut

QUANTILE = 1.959964  # of a two-sided interval of 95%
TREES: dict[str, Any] = {"max_iter": 60, "max_leaf_nodes": 15, "early_stopping": False}  # options of gradient boosting
EXAMPLE_SHARE = 0.8  # the accuracy or recall for which widths are given

Relabel = Callable[[Any], pa.Array | pa.ChunkedArray]  # of a column, or of a table of several label columns


@dataclass(frozen=True)
class Fitted:
    """A task fitted to the splits, with the targets in its terms.

    `outliers` marks, by split, the labels far outside the others (bool (N,)). It is empty for tasks without numbers.
    """

    task: Task
    targets: dict[str, np.ndarray]
    outliers: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Task(ABC):
    """Labels as targets, outputs as predictions, and their scores.

    Targets are NumPy arrays with a row for each sample. Each subclass states their dtype and shape.
    `confidence` is what val says of a trained model, in a form of the task's own; None before, and without val.
    """

    info: ClassVar[TaskInfo]
    confidence: Any = field(default=None, kw_only=True)

    @property
    def view(self) -> str:
        """What the prediction of a row is, as `TaskInfo.view`; `targets` for several numbers."""
        return self.info.view

    # From labels to targets

    @classmethod
    @abstractmethod
    def check_type(cls, column: pa.ChunkedArray, *, name: str, place: str = "data.label") -> None:
        """Raise DataError when a column's type can't be the label of this task."""

    @classmethod
    @abstractmethod
    def fit_labels(
        cls, column: pa.ChunkedArray, *, data: DataSpec, label_names: Sequence[str] | None, name: str
    ) -> Task:
        """Fit the task to the labels of the training file, none of which is missing.

        `label_names[v]` names the integer class v. Raises DataError for labels from which nothing can be learned.
        """

    @abstractmethod
    def fit_splits(self, targets: Mapping[str, np.ndarray], *, train: TrainSpec, name: str) -> Fitted:
        """Fit to the targets of each split, once all unusable rows are left out.

        Raises DataError when the training split has nothing to learn from.
        """

    @abstractmethod
    def encode(
        self,
        column: pa.ChunkedArray,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "labels",
        place: str = "data.label",
    ) -> np.ndarray:
        """Convert labels to targets. Raises DataError for a missing label, another type or an unknown class."""

    @abstractmethod
    def find(self, column: pa.ChunkedArray, *, label_names: Sequence[str] | None = None) -> np.ndarray:
        """Convert labels that may be missing or unknown to targets, such as those of rows that were left out."""

    @abstractmethod
    def decode(self, targets: np.ndarray) -> pa.Array:
        """Convert targets back to labels as the user's file has them; null for a missing one."""

    @classmethod
    def gather(cls, columns: Mapping[str, pa.ChunkedArray], *, place: str) -> pa.ChunkedArray:
        """Combine the plain columns of a list in `data.label` into one column of labels.

        Raises SpecError for a task of one column, and DataError for columns that hold no labels.
        """
        raise SpecError(
            f"{place}: task {cls.info.name!r} takes one label column, not {len(columns)}",
            hint='Name one column, or set task = "multilabel" (columns of 0 and 1) or "regression" (of numbers).',
        )

    def relabelling(self, values: pa.ChunkedArray, names: Sequence[str] | None) -> Relabel | None:
        """Return a function that maps labels of a file to this task's classes of the same names.

        Returns None where the file's values mean the same. A class that this task does not know becomes null, or
        keeps its name where this task's values are names.
        """
        return None

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the content of labels.json; its key `task` names the task."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: dict[str, Any]) -> Task: ...

    # Splits

    @property
    def class_names(self) -> Sequence[str]:
        """Classes or labels as people see them, in the order of their index; none where labels are numbers."""
        return ()

    @property
    def classes(self) -> int:
        """The number of classes or labels; 0 where labels are numbers."""
        return len(self.class_names)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of several predicted numbers; () for any other task."""
        return ()

    def counts(self, targets: np.ndarray) -> np.ndarray:
        """Return the number of rows of each class: int64 (classes,)."""
        return np.zeros(0, np.int64)

    def groups(self, targets: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Return the group (int64 (N,), -1 for none) of each row in a scatter plot, and the names of the groups."""
        return targets, list(self.class_names)

    @classmethod
    @abstractmethod
    def strata(cls, targets: np.ndarray, bins: int, rng: np.random.Generator) -> np.ndarray:
        """Return codes 0, 1, … (int64 (N,)): rows of one code are spread evenly over the splits.

        Numbers are put in `bins`.
        """

    @classmethod
    def assign(cls, targets: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """Return a split code (int8 (N,)) for each row, where rows are not spread by `strata`. `share` adds up to 1."""
        return None

    @classmethod
    @abstractmethod
    def needed_in_train(cls, group: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return sets of groups (bool (S, G)): train must hold one group of each set.

        `group` holds the code 0, 1, … of each row's group.
        """

    TRAIN_NEEDS: ClassVar[str] = "holds a row of every class"

    @abstractmethod
    def uncertainty(self, rows: int) -> str:
        """Say how precisely a metric is known on so few rows, as part of a sentence."""

    def summary(self, targets: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return the labels of the splits for a dry run, as JSON: the rows of each class in each split."""
        counts = {split: self.counts(one) for split, one in targets.items()}
        return {
            "classes": [
                {"class": name, **{split: int(count[index]) for split, count in counts.items()}}
                for index, name in enumerate(self.class_names)
            ]
        }

    # The model

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many numbers the head gives for each sample."""

    def model_targets(self, targets: np.ndarray) -> np.ndarray:
        """Convert targets to the form that the loss takes."""
        return targets

    def class_weights(self, targets: np.ndarray, given: str | dict[str, float]) -> np.ndarray | None:
        """Return the weight of each class in the loss, float64 (classes,); None for equal weights. Raises SpecError."""
        return None

    LOSS_UNIT: ClassVar[str] = ""  # a sentence where the loss is of labels in another unit
    CONSTANT: ClassVar[str]

    @abstractmethod
    def constant_logits(self, targets: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
        """Return the outputs (float32 (outputs,)) of the best constant prediction, from the training targets.

        `CONSTANT` says in words what it predicts.
        """

    COMPARABLE: ClassVar[str]

    @abstractmethod
    def comparable(self, logits: np.ndarray) -> np.ndarray:
        """Return outputs (N, outputs) on one scale for all tasks, float64; `COMPARABLE` names them."""

    def explained_output(self, logits: np.ndarray) -> np.ndarray:
        """Return the output that explains a prediction, int64 (N,) for outputs (N, outputs); -1 is the sum of all."""
        return np.zeros(len(logits), np.int64)

    def output_of(self, name: str) -> int:
        """Return the index of the output of a class or label, by the name that people see. Raises SpecError."""
        names = list(self.class_names)
        if name not in names:
            what = f"{did_you_mean(name, names)}" if names else "the outputs of this run have no names."
            raise SpecError(f"there is no class {name!r}. {what}".rstrip(), hint=f"Classes: {listed(names)}.")
        return names.index(name)

    def with_thresholds(self, logits: np.ndarray, truth: np.ndarray) -> Self:
        """Return the task with the decision thresholds that suit these rows best; itself where it has none."""
        return self

    def estimator(self, kind: Literal["linear", "trees"], penalty: float | None) -> Any:
        """Return a scikit-learn estimator of a column of `model_targets` that are numbers; its predictions are outputs.

        `probing` fits it to features. `penalty` is that of a linear one.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.linear_model import Ridge

        return Ridge(alpha=penalty) if kind == "linear" else HistGradientBoostingRegressor(**TREES)

    # Confidence

    @property
    def confidence_notes(self) -> tuple[str, ...]:
        """Notes, in sentences, on the confidence that was fitted to val."""
        return () if self.confidence is None else self.confidence.notes

    @abstractmethod
    def with_confidence(self, held_out: HeldOut, calibration: CalibrationSpec) -> Self:
        """Return the task with its confidence fitted to val; `held_out` has at least one row.

        Predictions stay the same, unless a calibrator with parameters for each class changes some.
        """

    def confidences(self, logits: np.ndarray) -> np.ndarray | None:
        """Compute the confidence of each prediction, float64 (N,) in 0 … 1; None for tasks without one."""
        return None

    def at_coverage(self, coverage: float) -> Self:
        """Return the task with another coverage of its sets or intervals. Raises SpecError where it has neither."""
        if not self.covers:
            raise SpecError(
                "coverage: this model has no sets or intervals",
                hint="They come from the rows of val when a run ends; runs without val rows have none.",
            )
        return replace(self, confidence=replace(self.confidence, coverage=coverage))

    @property
    def covers(self) -> bool:
        """Whether predictions have sets or intervals."""
        return self.confidence is not None

    def confidence_metrics(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Score the confidence that was fitted to val on outputs (N, outputs) and targets, ready for JSON.

        `uncalibrated` has the log loss and the calibration error before calibration, `confidence` the rest. Empty where
        nothing was fitted.
        """
        return {}

    # Predictions and scores

    @abstractmethod
    def predictions(self, logits: np.ndarray) -> dict[str, pa.Array]:
        """Return columns of predictions.parquet for outputs (N, outputs): `prediction` and what else there is."""

    def read_predictions(self, column: pa.ChunkedArray, *, place: str) -> np.ndarray:
        """Convert the column `prediction` of a file back to targets. Raises DataError as `encode` does."""
        return self.encode(column, name="prediction", place=place)

    def decide(self, probabilities: np.ndarray, *, votes: bool = False) -> np.ndarray:
        """Predict the targets of probabilities (N, classes); with `votes` these are shares of votes."""
        return probabilities.argmax(axis=1)

    @abstractmethod
    def score(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Return the metrics of outputs (N, outputs) against targets, ready for JSON.

        Raises TrainingError when a prediction is not a finite number.
        """

    @abstractmethod
    def baseline(self, truth: np.ndarray, train: np.ndarray) -> dict[str, Any]:
        """Return the metrics of constant predictions on `truth`, and the constants.

        `train` holds the training targets.
        """


def wilson_text(rows: int) -> str:
    """Format Wilson's score interval (Wilson 1927) of a share of EXAMPLE_SHARE among some rows: `0.49 to 0.94`."""
    centre = (EXAMPLE_SHARE + QUANTILE**2 / (2 * rows)) / (1 + QUANTILE**2 / rows)
    half = math.sqrt(EXAMPLE_SHARE * (1 - EXAMPLE_SHARE) / rows + QUANTILE**2 / (4 * rows**2))
    half *= QUANTILE / (1 + QUANTILE**2 / rows)
    return f"{centre - half:.2f} to {centre + half:.2f}"
