"""Metrics as rows: what each is called, which way is better, what it is computed from. No numpy here.

A new metric is one row here, its function, and its name in the row of each task that has it (`spec.tasks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal

Needs = Literal["loss", "classes", "numbers", "labels"]
_FUNCTIONS = "deeptune.tasks.metric_functions:"


@dataclass(frozen=True)
class Metric:
    """A single number of a split's metrics.

    `range` holds the worst and the best value, None for no bound. `unit` decides how a value is printed: a `share` with
    three decimals, a number in the unit of the `label` or in `nats` with four significant digits. `function` names what
    computes it, as `module:function`, from the scored rows (`needs`: `classes`, `numbers` or `labels`; the training
    loop gives the loss). `chooses` says whether it may choose the best epoch, `beats_constant` whether a model that is
    worse in it than a constant prediction is reported as such. `interval` names how its 95% interval is computed.
    `influence` names what gives the influence of each row on a metric of numbers, as `function` names the function.
    """

    name: str
    title: str
    needs: Needs
    function: str = ""
    higher_is_better: bool = True
    range: tuple[float | None, float | None] = (0.0, 1.0)
    unit: Literal["share", "label", "nats"] = "share"
    interval: Literal["proportion", "correlation", "error", "calibration"] | None = None
    chooses: bool = True
    beats_constant: bool = False
    influence: str = ""

    def better(self, value: float, other: float) -> bool:
        """Check whether a value is better than another one."""
        return value > other if self.higher_is_better else value < other

    def compute(self, scored: Any) -> float | None:
        """Return the value on scored rows, or None where it is not defined on them."""
        function: Callable[[Any], float | None] = resolve_name(self.function)
        return function(scored)

    def influence_on(self, scored: Any) -> Any:
        """Return the influence of each of N scored rows, float64 (N,), where the metric is defined on them."""
        function: Callable[[Any], Any] = resolve_name(self.influence)
        return function(scored)


def _classes(name: str, title: str, **options: Any) -> Metric:
    return Metric(name, title, "classes", _FUNCTIONS + name, **options)


def _labels(name: str, title: str, **options: Any) -> Metric:
    return Metric(name, title, "labels", _FUNCTIONS + name, **options)


def _numbers(name: str, title: str, *, module: str = "deeptune.tasks.number_metrics", **options: Any) -> Metric:
    function = f"{module}:{name}"
    return Metric(name, title, "numbers", function, influence=f"{function}_influence", **options)


_NATS: dict[str, Any] = {"higher_is_better": False, "range": (None, 0.0), "unit": "nats"}
_ERROR: dict[str, Any] = {"higher_is_better": False, "range": (None, 0.0), "unit": "label", "interval": "error"}

# In the order in which reports show them.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _classes("quadratic_weighted_kappa", "Quadratic weighted kappa", range=(-1.0, 1.0), interval="proportion"),
        _classes(
            "rank_mae",
            "MAE in ranks",
            higher_is_better=False,
            range=(None, 0.0),
            unit="label",
            interval="error",
            beats_constant=True,
        ),
        _classes("accuracy", "Accuracy", interval="proportion", beats_constant=True),
        _classes("balanced_accuracy", "Balanced accuracy", interval="proportion"),
        _classes("macro_f1", "Macro F1", interval="proportion"),
        _classes("macro_f1_present", "Macro F1 (scikit-learn)", interval="proportion", chooses=False),
        _labels("micro_f1", "Micro F1", interval="proportion"),
        _classes("weighted_f1", "Weighted F1", interval="proportion"),
        _classes("mcc", "Matthews correlation", range=(-1.0, 1.0), interval="proportion"),
        _classes("roc_auc", "ROC AUC", interval="proportion"),
        _labels("macro_roc_auc", "Macro ROC AUC", interval="proportion"),
        _labels("macro_average_precision", "Macro average precision", interval="proportion"),
        _labels(
            "hamming_loss",
            "Hamming loss",
            higher_is_better=False,
            range=(1.0, 0.0),
            interval="proportion",
            beats_constant=True,
        ),
        _classes("log_loss", "Log loss", interval="error", beats_constant=True, **_NATS),
        _classes("ece", "Expected calibration error", higher_is_better=False, range=(1.0, 0.0), interval="calibration"),
        _numbers(
            "poisson_deviance",
            "Poisson deviance",
            module="deeptune.tasks.count",
            interval="error",
            beats_constant=True,
            **_NATS,
        ),
        _numbers("d2", "D²", module="deeptune.tasks.count", range=(None, 1.0), interval="error"),
        _numbers("mae", "MAE", beats_constant=True, **_ERROR),
        _numbers("rmse", "RMSE", beats_constant=True, **_ERROR),
        _numbers("r2", "R²", range=(None, 1.0), interval="error"),
        _numbers("spearman", "Spearman", range=(-1.0, 1.0), interval="correlation"),
        Metric("loss", "Loss", "loss", **_NATS),
        Metric("tempered_loss", "Log loss after temperature", "loss", **_NATS),
        Metric("out_of_fold_loss", "Out-of-fold loss", "loss", **_NATS),
    )
}


def lower_is_better(name: str) -> bool:
    """Check whether less of a metric is better; its name may have a split before it, as in `val/loss`."""
    metric = METRICS.get(name.rpartition("/")[2])
    return metric is not None and not metric.higher_is_better


def shown_metrics(metrics: Mapping[str, Any]) -> list[str]:
    """Return the names of a split's single numbers that are worth a line, in the order of `METRICS`.

    scikit-learn's macro F1 is one only where it is another number: where a class neither occurs nor is predicted.
    """
    same = metrics.get("macro_f1_present") == metrics.get("macro_f1")
    return [name for name in METRICS if name in metrics and not (same and name == "macro_f1_present")]
