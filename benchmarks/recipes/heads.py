"""Exact heads on frozen features, and what their confidence is fitted to, beside scikit-learn on the same rows.

    python -m benchmarks.recipes.heads --data FOLDER --out DIR

The features of a data set pass the backbone once; each cell (data set, size, seed) is then computed from them as a run
computes its head. A finished cell is a line of `heads.jsonl`. Names with `:class` or `:number` ask for the labels as
classes or as numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy import stats

from benchmarks.linear_baseline import cross_validated
from benchmarks.recipes.cells import read_lines
from benchmarks.recipes.datasets import DataSet, available
from benchmarks.recipes.frozen import Frozen, frozen
from benchmarks.recipes.scoring import MAIN, Predicted, scores
from deeptune.data.splits.folds import draw_folds
from deeptune.data.splits.stratify import assign_splits
from deeptune.engine.exact_head import PenaltyFolds, cross_validated_penalties
from deeptune.engine.linear_minimum import LinearLoss, Minimum, one_thread
from deeptune.engine.loss import Criterion
from deeptune.model.head import ScaledLinear
from deeptune.spec.data_spec import SplitSpec
from deeptune.spec.defaults import PENALTIES
from deeptune.spec.run_spec import CalibrationSpec
from deeptune.spec.tasks import LOSSES
from deeptune.tasks import Task
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.regression import RegressionTask

RESULTS = "heads.jsonl"
LINEAR, EXACT, VAL_ALONE = "scikit-learn", "exact", "exact, confidence by val alone"
SHOWN = ("accuracy", "r2", "log_loss", "ece", "coverage")


@dataclass(frozen=True)
class Rows:
    """The rows of a cell: features and labels to learn from, and to score on."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    numbers: bool
    seed: int

    @classmethod
    def of(cls, data: Frozen, size: int, seed: int) -> Rows:
        places = data.drawn(size, seed)
        return cls(data.features[places], data.labels[places], data.test_features, data.test_labels, data.numbers, seed)

    @property
    def task(self) -> Task:
        return RegressionTask.fit(self.y) if self.numbers else ClassificationTask.fit(pa.chunked_array([self.y]))


class Head:
    """An exact head on some rows, as a run fits it: val drawn from them, the penalty by folds of the rest, a refit."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.task = rows, rows.task
        targets = rows.y.astype(np.float64) if rows.numbers else self.task.encode(pa.chunked_array([rows.y]))
        self.truth = np.asarray(targets)
        split = assign_splits(
            self.truth, task=type(self.task), proportions=SplitSpec(train=0.875, val=0.125, test=0.0), seed=rows.seed
        )
        self.train, self.val = np.flatnonzero(split == 0), np.flatnonzero(split == 1)
        self.criterion = Criterion("mse" if rows.numbers else "cross_entropy")
        self.folds = self._chosen()
        refitted = self._minimum(np.concatenate([self.train, self.val]))
        self.val_logits = self._outputs(self._minimum(self.train), rows.x[self.val])
        self.logits = self._outputs(refitted, rows.test_x)

    def calibrated(self, *, folds: bool) -> Task:
        """Return the task with its confidence fitted to val, or to val and the folds of train."""
        logits, truth = [self.val_logits], [self.truth[self.val]]
        if folds:
            logits.append(self.folds.nested())
            truth.append(self.truth[self.train])
        held_out = HeldOut(np.concatenate(logits), np.concatenate(truth), None, self.rows.seed)
        return self.task.with_confidence(held_out, CalibrationSpec())

    def scores(self, *, folds: bool = True) -> dict[str, float]:
        """Return the scores on test, with the coverage of sets or intervals at 0.9."""
        task, rows = self.calibrated(folds=folds), self.rows
        if rows.numbers:
            predicted = Predicted(numbers=self.task.restore(self.logits[:, 0]))  # type: ignore[attr-defined]
            truth = rows.test_y.astype(np.float64)
        else:
            predicted = Predicted(probabilities=task.probabilities(self.logits), classes=self.task.values)  # type: ignore[attr-defined]
            truth = np.asarray(self.task.encode(pa.chunked_array([rows.test_y])))
        covered = task.confidence_metrics(self.logits, truth)["confidence"]["covered"]
        return scores(rows.test_y, predicted) | {"coverage": covered}

    def _chosen(self) -> PenaltyFolds:
        codes = draw_folds(self.truth[self.train], self.task, seed=self.rows.seed)
        found = []
        for common in (False, True) if self.rows.numbers else (False,):
            self.layer = self._scaled_layer(common=common)
            found.append((cross_validated_penalties(self._loss(self.train), codes, list(PENALTIES)), self.layer))
        folds, self.layer = min(found, key=lambda one: float(one[0].means.min()))
        return folds

    def _scaled_layer(self, *, common: bool) -> ScaledLinear:
        layer = ScaledLinear(self.rows.x.shape[1], self.task.outputs)
        layer.set_scale(torch.from_numpy(self.rows.x[self.train]), common=common)
        return layer

    def _loss(self, places: np.ndarray) -> LinearLoss:
        targets = torch.from_numpy(self.task.model_targets(self.truth[places]))
        targets = targets if LOSSES[self.criterion.loss].of_classes else targets.double()
        return LinearLoss(self._scaled(self.rows.x[places]), targets, self.criterion, self.task.outputs)

    def _scaled(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x).double().sub_(self.layer.shift).div_(self.layer.scale)

    def _minimum(self, places: np.ndarray) -> Minimum:
        found = Minimum(self._loss(places))
        for penalty in self.folds.penalties[: self.folds.best + 1]:
            found.solve(penalty)
        return found

    def _outputs(self, found: Minimum, x: np.ndarray) -> np.ndarray:
        weight, bias = found.layer()
        return torch.addmm(bias, self._scaled(x), weight.t()).float().numpy()


def linear(rows: Rows) -> dict[str, float]:
    """Return the scores of scikit-learn's cross-validated best, fitted to all rows."""
    model = cross_validated("regression" if rows.numbers else "classification").fit(rows.x, rows.y)
    if rows.numbers:
        return scores(rows.test_y, Predicted(numbers=model.predict(rows.test_x)))
    found = Predicted(probabilities=model.predict_proba(rows.test_x), classes=list(model.classes_))
    return scores(rows.test_y, found)


def measure(rows: Rows) -> dict[str, dict[str, float]]:
    """Return the scores of each way on the same rows, and its seconds of CPU time."""
    started = time.process_time()
    with one_thread():
        head = Head(rows)
    found = {EXACT: head.scores(), VAL_ALONE: head.scores(folds=False)}
    found[EXACT]["seconds"] = time.process_time() - started
    started = time.process_time()
    found[LINEAR] = linear(rows)
    found[LINEAR]["seconds"] = time.process_time() - started
    return found


def relabelled(name: str, data: DataSet) -> DataSet:
    """Return the data set with its labels as numbers or as classes where its name ends in `:number` or `:class`."""
    kind = {":number": pa.float64(), ":class": pa.string()}
    for end, type_ in kind.items():
        if name.endswith(end):

            def cast(table: pa.Table, to: pa.DataType = type_) -> pa.Table:
                at = table.column_names.index("labels")
                return table.set_column(at, "labels", table["labels"].cast(to)).replace_schema_metadata(None)

            return DataSet(name, cast(data.train), cast(data.test))
    return data


def run(chosen: argparse.Namespace) -> None:
    """Run the cells that `heads.jsonl` does not have, seed by seed."""
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / RESULTS
    done = {(one["data"], one["size"], one["seed"]) for one in read_lines(path)}
    sets = available(chosen.data)
    for name in chosen.sets or sets:
        plain = name.removesuffix(":number").removesuffix(":class")
        todo = [(size, seed) for seed in range(chosen.seeds) for size in chosen.sizes if (name, size, seed) not in done]
        if not todo:
            continue
        if plain not in sets:
            raise SystemExit(f"no data set is called {plain!r}; there are {', '.join(sets)} (--data names a folder)")
        data = relabelled(name, sets[plain]())
        backbone = chosen.text_backbone if data.modality == "text" else chosen.image_backbone
        stored = frozen(data, plain, backbone, chosen.out / "features", chosen.rows, chosen.test_rows)
        for size, seed in todo:
            if size > len(stored.labels):
                continue
            found = measure(Rows.of(stored, size, seed))
            with path.open("a") as file:
                file.write(json.dumps({"data": name, "size": size, "seed": seed, "scores": found}) + "\n")
            print(name, size, seed, {way: _main(values) for way, values in found.items()}, flush=True)


def _main(values: dict[str, float]) -> float:
    return round(next(values[name] for name in MAIN.values() if name in values), 4)


def table(lines: Iterable[dict[str, Any]], ways: Sequence[tuple[str, str]]) -> str:
    """Draw a row for each data set, size and metric: the mean of each way, and paired differences ± standard error."""
    cells: dict[tuple[str, int], list[dict[str, dict[str, float]]]] = defaultdict(list)
    for line in lines:
        cells[line["data"], line["size"]].append(line["scores"])
    names = list(dict.fromkeys(way for pair in ways for way in pair))
    heads = ["data, rows", "draws", "metric", *names, *(f"{ours} less {theirs}" for ours, theirs in ways)]
    rows = [heads, ["---"] * len(heads)]
    totals: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for (name, size), found in sorted(cells.items()):
        for metric in SHOWN:
            if metric not in found[0][EXACT]:
                continue
            values = {way: [one[way][metric] for one in found if metric in one[way]] for way in names}
            shown = [f"{np.mean(one):.3f}" if one else "" for one in values.values()]
            for ours, theirs in ways:
                gaps = [one - other for one, other in zip(values[ours], values[theirs], strict=False)]
                shown.append(_with_error(gaps) if gaps else "")
                totals[metric, ours, theirs] += [float(np.mean(gaps))] if gaps else []
            rows.append([f"{name}, {size}", str(len(found)), metric, *shown])
    ends = [
        f"- {metric}, {ours} less {theirs}: {_with_error(gaps)} over {len(gaps)} cells, from {min(gaps):+.3f} to "
        f"{max(gaps):+.3f}"
        for (metric, ours, theirs), gaps in totals.items()
        if gaps
    ]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *ends])


def _with_error(values: Sequence[float]) -> str:
    error = f" ± {stats.sem(values):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):+.3f}{error}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes.heads", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=Path("heads"), metavar="DIR", help="results and features (default: heads)")
    add("--data", type=Path, metavar="FOLDER", help="NAME_train.parquet and NAME_test.parquet for each data set")
    add("--sets", nargs="+", metavar="NAME", help="these data sets; all that there are by default")
    add("--sizes", nargs="+", type=int, default=[150, 400, 1000], metavar="ROWS")
    add("--seeds", type=int, default=3, help="draws of the training rows (default: 3)")
    add("--rows", type=int, default=3000, help="rows of a data set that pass the backbone to be drawn from")
    add("--test-rows", type=int, default=2000, metavar="N")
    add("--image-backbone", default="efficientnet_lite0@64", metavar="NAME[@PIXELS]")
    add("--text-backbone", default="minilm", metavar="NAME")
    add("--report", action="store_true", help="print the tables of what is there; nothing is run")
    chosen = parser.parse_args(arguments)
    if not chosen.report:
        run(chosen)
    print(table(read_lines(chosen.out / RESULTS), [(EXACT, LINEAR), (EXACT, VAL_ALONE)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
