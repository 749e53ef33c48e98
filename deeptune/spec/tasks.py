"""Tasks as rows: the static half of each, which spec, forms, reports and viewers read. No numpy here.

The other half, which is fitted to a label column, is the class that `implementation` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True)
class LossInfo:
    """A loss: the sum over a batch that training minimises, and the loss of each row of a stored model.

    title: what a methods section calls it. curvature: about the second derivative by an output, which sets the scale
    of the search for an exact minimum. squares: whether that minimum has a closed form. tempered: whether outputs are
    log odds, which a temperature may scale. of_classes: whether targets are indices of classes, not numbers. robust:
    whether a target far outside the others has a bounded pull.

    The functions of its name are in `engine.loss.BATCH_SUMS` and `tasks.row_losses.ROW_LOSSES`.
    """

    name: str
    title: str
    curvature: float = 1.0
    squares: bool = False
    tempered: bool = False
    of_classes: bool = False
    robust: bool = False


LOSSES: dict[str, LossInfo] = {
    loss.name: loss
    for loss in (
        LossInfo("cross_entropy", "cross entropy", curvature=0.1, tempered=True, of_classes=True),
        LossInfo("mse", "mean squared error", curvature=2.0, squares=True),
        LossInfo("huber", "Huber loss", robust=True),
        LossInfo("poisson", "Poisson deviance", curvature=2.0),
        LossInfo("bce", "binary cross entropy", curvature=0.1, tempered=True),
        LossInfo("cumulative_link", "cumulative link loss", tempered=True, of_classes=True),
    )
}

# A plan asks by name, as the loss of a spec may still be `auto` then, which is not in LOSSES.
ROBUST = frozenset(name for name, loss in LOSSES.items() if loss.robust)

LabelKind = Literal["classes", "numbers", "lists"]


@dataclass(frozen=True)
class TaskInfo:
    """The facts about a task that do not depend on data.

    losses: those it takes, its default first. metrics: those of each split, in the order of metrics.json. headline:
    what a report begins with. summary: what a line of the monitor has room for. compared: what is given again
    without doubtful rows. curve: the metric that is plotted beside the loss, and that probes rank by. tuned_metric:
    chooses the best epoch when the backbone learns too, a proper score of the task. view: what the prediction of a row
    is, `classes`, `labels` or `numbers`, by which reports and probes choose what fits (`report/task_views.py`).
    mirrored: whether augmentation may mirror an image, as it leaves classes what they are but not, say, an angle.
    several_columns: whether `data.label` may be a list of columns. ordered: whether the classes have an order, so that
    the head has one score and thresholds. usual_for: the labels that are taken to be of this task where nobody says.
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
    usual_for: LabelKind | None = None

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
            usual_for="classes",
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
            usual_for="numbers",
        ),
        TaskInfo(
            name="count",
            description="counts",
            implementation="deeptune.tasks.count:CountTask",
            losses=("poisson",),
            metrics=("poisson_deviance", "d2", "mae", "rmse"),
            headline=("poisson_deviance", "d2"),
            summary=("poisson_deviance", "d2", "mae"),
            compared=("poisson_deviance", "d2"),
            curve="d2",
            tuned_metric="loss",
            view="numbers",
            stratified_by="quantile of the label",
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
            usual_for="lists",
        ),
    )
}  # fmt: skip

# The task of labels that are classes, numbers, or lists of classes, where nobody says another one.
USUAL_TASKS: dict[LabelKind, str] = {info.usual_for: info.name for info in TASKS.values() if info.usual_for}
TASK_NAMES = ", ".join(f"`{name}`" for name in sorted(TASKS))  # for the help of an option

if TYPE_CHECKING:
    TaskName = str
    LossName = str
else:
    TaskName = Literal[tuple(sorted(TASKS))]
    LossName = Literal["auto", *LOSSES]
