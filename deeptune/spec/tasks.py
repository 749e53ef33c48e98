"""Tasks as rows: the static half of each, which spec, forms, reports and viewers read. No numpy here.

The other half, which is fitted to a label column, is the class that `implementation` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True)
class LossInfo:
    """A loss that `engine.loss` computes.

    title: what a methods section calls it. tempered: whether its outputs are log odds, which a temperature may scale.
    of_classes: whether its targets are indices of classes, not numbers.
    """

    title: str
    tempered: bool = False
    of_classes: bool = False


LOSSES: dict[str, LossInfo] = {
    "cross_entropy": LossInfo("cross entropy", tempered=True, of_classes=True),
    "mse": LossInfo("mean squared error"),
    "huber": LossInfo("Huber loss"),
    "bce": LossInfo("binary cross entropy", tempered=True),
    "cumulative_link": LossInfo("cumulative link loss", tempered=True, of_classes=True),
}


@dataclass(frozen=True)
class TaskInfo:
    """The facts about a task that do not depend on data.

    losses: those it takes, its default first. metrics: those of each split, in the order of metrics.json. headline:
    what a report begins with. summary: what a line of the monitor has room for. compared: what is given again
    without doubtful rows. curve: the metric that is plotted beside the loss. tuned_metric: chooses the best epoch
    when the backbone learns too, a proper score of the task. view: which pictures and sentences a report has
    (`report.views`). mirrored: whether augmentation may mirror an image, as it leaves classes what they are but
    not, say, an angle.
    several_columns: whether `data.label` may be a list of columns. ordered: whether the classes have an order, so that
    the head has one score and thresholds.
    """

    name: str
    description: str
    implementation: str
    losses: tuple[str, ...]
    metrics: tuple[str, ...]
    headline: tuple[str, ...]
    summary: tuple[str, ...]
    compared: tuple[str, ...]
    curve: str
    tuned_metric: str
    view: Literal["classes", "numbers", "labels"]
    stratified_by: str
    class_weights: bool = False
    label_smoothing: bool = False
    named_classes: bool = False
    mirrored: bool = True
    several_columns: bool = False
    ordered: bool = False

    @property
    def default_loss(self) -> str:
        return self.losses[0]


TASKS: dict[str, TaskInfo] = {
    info.name: info
    for info in (
        TaskInfo(
            name="classification",
            description="classes",
            implementation="deeptune.tasks.classification:ClassificationTask",
            losses=("cross_entropy",),
            metrics=(
                "accuracy", "balanced_accuracy", "macro_f1", "macro_f1_present", "weighted_f1", "mcc", "roc_auc",
                "log_loss", "ece",
            ),
            headline=("accuracy", "macro_f1"),
            summary=("accuracy", "macro_f1", "roc_auc"),
            compared=("accuracy", "macro_f1"),
            curve="accuracy",
            tuned_metric="tempered_loss",
            view="classes",
            stratified_by="class",
            class_weights=True,
            label_smoothing=True,
            named_classes=True,
        ),
        TaskInfo(
            name="ordinal",
            description="classes with an order",
            implementation="deeptune.tasks.ordinal:OrdinalTask",
            losses=("cumulative_link",),
            metrics=(
                "quadratic_weighted_kappa", "rank_mae", "accuracy", "balanced_accuracy", "macro_f1",
                "macro_f1_present", "weighted_f1", "roc_auc", "log_loss", "ece",
            ),
            headline=("quadratic_weighted_kappa", "rank_mae"),
            summary=("quadratic_weighted_kappa", "rank_mae", "accuracy"),
            compared=("quadratic_weighted_kappa", "rank_mae"),
            curve="quadratic_weighted_kappa",
            tuned_metric="tempered_loss",
            view="classes",
            stratified_by="class",
            named_classes=True,
            ordered=True,
        ),
        TaskInfo(
            name="regression",
            description="numbers",
            implementation="deeptune.tasks.regression:RegressionTask",
            losses=("mse", "huber"),
            metrics=("mae", "rmse", "r2", "spearman"),
            headline=("mae", "r2"),
            summary=("mae", "rmse", "r2"),
            compared=("rmse", "r2"),
            curve="r2",
            tuned_metric="loss",
            view="numbers",
            stratified_by="quantile of the label",
            mirrored=False,
            several_columns=True,
        ),
        TaskInfo(
            name="multilabel",
            description="any number of labels",
            implementation="deeptune.tasks.multilabel:MultiLabelTask",
            losses=("bce",),
            metrics=("macro_f1", "micro_f1", "macro_roc_auc", "macro_average_precision", "hamming_loss"),
            headline=("macro_f1", "macro_average_precision"),
            summary=("macro_f1", "macro_roc_auc"),
            compared=("macro_f1", "macro_average_precision"),
            curve="macro_average_precision",
            tuned_metric="tempered_loss",
            view="labels",
            stratified_by="label",
            several_columns=True,
        ),
    )
}  # fmt: skip

if TYPE_CHECKING:
    TaskName = str
    LossName = str
else:
    TaskName = Literal[tuple(sorted(TASKS))]
    LossName = Literal["auto", *LOSSES]
