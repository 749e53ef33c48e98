"""Two runs compared on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from deeptune.formatting import visible
from deeptune.report.finished_run import Predictions
from deeptune.report.paired_tests import Difference
from deeptune.report.tables import TITLES

Alike = Literal["", "predictions", "outputs"]


@dataclass(frozen=True)
class Pair:
    """The comparison of two runs: `second` less `first`.

    flipped: the rows that one of them has right and the other wrong; only_first and only_second count them. Numbers are
    neither right nor wrong: then there are none. `targets` has the metrics of each of several predicted numbers. Then
    `metrics` are means over these, of the metrics without a unit alone. `alike` says what is the same in every row.
    """

    first: int
    second: int
    metrics: dict[str, Difference]
    flipped: list[int]
    only_first: int = 0
    only_second: int = 0
    targets: dict[str, dict[str, Difference]] = field(default_factory=dict)
    alike: Alike = ""

    def lines(self) -> list[tuple[str, str, Difference]]:
        """List each difference with its title and the name of its metric."""
        mean = "Mean {}" if self.targets else "{}"
        return [
            *((mean.format(TITLES[name]), name, one) for name, one in self.metrics.items()),
            *(
                (f"{visible(target)}: {TITLES[name]}", name, one)
                for target, metrics in self.targets.items()
                for name, one in metrics.items()
            ),
        ]

    def mapped(self, change: Callable[[Difference], Difference]) -> Pair:
        """Change each difference, in the order of `lines`."""
        metrics, *each = (
            {name: change(one) for name, one in metrics.items()} for metrics in (self.metrics, *self.targets.values())
        )
        return replace(self, metrics=metrics, targets=dict(zip(self.targets, each, strict=True)))

    def reversed(self) -> Pair:
        """Compare the same runs the other way round."""
        turned = replace(
            self,
            first=self.second,
            second=self.first,
            only_first=self.only_second,
            only_second=self.only_first,
        )
        return turned.mapped(Difference.reversed)

    def to_json(self, *, corrected: bool = False) -> dict[str, Any]:
        """Return `metrics`, `flipped` and, of several predicted numbers, `per_target`; `corrected` adds `p_holm`."""
        found: dict[str, Any] = {"metrics": _metrics_json(self.metrics, corrected)}
        if self.targets:
            found["per_target"] = {
                target: _metrics_json(metrics, corrected) for target, metrics in self.targets.items()
            }
        return {**found, "flipped": self.flipped}


def alike(left: Predictions, right: Predictions) -> Alike:
    """Say what two runs give alike in every row: all `outputs`, the `predictions` alone, or nothing."""
    if not np.array_equal(left.prediction, right.prediction, equal_nan=True):
        return ""
    if left.probabilities is None or right.probabilities is None:
        return "outputs"
    return "outputs" if np.array_equal(left.probabilities, right.probabilities) else "predictions"


def _metrics_json(metrics: dict[str, Difference], corrected: bool) -> dict[str, Any]:
    return {
        name: {
            "values": list(one.values),
            "difference": one.difference,
            "interval": None if one.interval is None else list(one.interval),
            "p": one.p,
            **({"p_holm": one.p_holm} if corrected else {}),
        }
        for name, one in metrics.items()
    }
