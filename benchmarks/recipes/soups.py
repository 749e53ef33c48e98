"""Compares what runs keep with and without a mean of epochs: `python -m benchmarks.recipes.soups --out DIR`.

It reads the outputs that `benchmarks.recipes.tuned` recorded in DIR: the best epoch alone and the mean of the best
ones, each beside the head. Nothing is trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.recipes.tuned import Arrays, mean_over_sets, row_losses, shown
from deeptune.engine.choice import MAX_P, ValLosses, compare
from deeptune.tasks.confidence.calibrator_choice import ClassLink, choose
from deeptune.tasks.confidence.calibrators import Calibrator, fit_classes
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.metric_functions import calibration_error
from deeptune.tasks.temperature import fit_temperature
from deeptune.tasks.temperature_prior import FINE_TUNED

LIMITS = (0.05, 0.16, 0.3, 0.5, 1.1)  # of p; the last keeps all
EPOCH, MEAN = "tuned", "mean"


@dataclass(frozen=True)
class Cell:
    """The p of a model's gain on val, and its score (accuracy or R²), loss and ECE on test less those of its head."""

    data: str
    size: str
    method: str
    seed: str
    text: bool
    numbers: bool
    head: float
    p: dict[str, float]
    gains: dict[str, np.ndarray]

    def kept(self, name: str, limit: float) -> np.ndarray:
        """Return the gains of a run that keeps fine-tuning below a limit of p, and else the head."""
        return self.gains[name] if self.p[name] < limit else np.zeros(3)


def cells(folder: Path) -> Iterator[Cell]:
    """Yield the cells whose outputs are below a folder."""
    for path in sorted((folder / "outputs").glob("*.npz")):
        data, size, method, seed = path.name.removesuffix(".npz").rsplit("-", 3)
        beside = path.with_name(f"{data}-{size}-partial-{seed}.npz")
        if method == "partial" or path.name.endswith(".part.npz") or not beside.exists():
            continue
        tuned, head = dict(np.load(path)), dict(np.load(beside))
        numbers = head["logits.head.val"].shape[1] == 1
        reference, alone = _scores(head, "head", numbers), _val(head, "head", numbers)
        yield Cell(
            data, size, method, seed, bool(tuned["text"]), numbers, float(reference[0]),
            {name: compare(alone, _val(tuned, name, numbers)).p for name in (EPOCH, MEAN)},
            {name: _scores(tuned, name, numbers) - reference for name in (EPOCH, MEAN)},
        )  # fmt: skip


def _val(arrays: Arrays, name: str, numbers: bool) -> ValLosses:
    outputs, targets = arrays[f"logits.{name}.val"].astype(np.float64), arrays[f"target.{name}.val"]
    if numbers:
        losses = (outputs[:, 0] - targets) ** 2
    else:
        losses = row_losses(outputs, targets, fit_temperature(outputs, targets))
    return ValLosses(losses, np.ones(len(losses)))


def _scores(arrays: Arrays, name: str, numbers: bool) -> np.ndarray:
    """Return score, loss and ECE on test, with the confidence that a run has; numbers have no ECE."""
    outputs, targets = arrays[f"logits.{name}.test"].astype(np.float64), arrays[f"target.{name}.test"]
    if numbers:
        errors = (outputs[:, 0] - targets) ** 2
        return np.array([1 - errors.sum() / ((targets - targets.mean()) ** 2).sum(), errors.mean(), 0.0])
    chances = _calibrator(arrays, name).of_classes(outputs)
    right = chances.argmax(axis=1) == targets
    loss = -np.log(np.clip(chances[np.arange(len(targets)), targets], 1e-15, 1)).mean()
    return np.array([right.mean(), loss, calibration_error(chances.max(axis=1), right)])


def _calibrator(arrays: Arrays, name: str) -> Calibrator:
    if name != "head":
        return fit_classes("temperature", arrays[f"logits.{name}.val"], arrays[f"target.{name}.val"], FINE_TUNED)
    outputs, targets = (
        np.concatenate([arrays[f"{what}.head.{part}"] for part in ("val", "folds")]) for what in ("logits", "target")
    )
    return choose(ClassLink(outputs.shape[1], None), HeldOut(outputs, targets), "auto").calibrator


def report(found: Sequence[Cell]) -> str:
    """Draw the cells, what each limit keeps, and what a run gives by size, modality and method."""
    parts = []
    for numbers in (False, True):
        inside = [one for one in found if one.numbers == numbers]
        if inside:
            parts += ["numbers" if numbers else "classes", _each(inside), _limits(inside), _groups(inside)]
    return "\n\n".join(parts)


def _each(found: Sequence[Cell]) -> str:
    rows = ["| cell | head | best epoch: p, score, loss | mean: p, score, loss |", "|---|---:|---|---|"]
    for one in found:
        sides = [f"{one.p[name]:.2f}, {one.gains[name][0]:+.3f}, {one.gains[name][1]:+.3f}" for name in (EPOCH, MEAN)]
        rows.append(f"| {one.data}, {one.size}, {one.method}, {one.seed} | {one.head:.3f} | {' | '.join(sides)} |")
    return "\n".join(rows)


def _limits(found: Sequence[Cell]) -> str:
    rows = ["| limit of p | model | kept | score | loss | ECE | worst score | worst loss |"]
    rows.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for limit in LIMITS:
        for name in (EPOCH, MEAN):
            gains = np.array([one.kept(name, limit) for one in found])
            count = sum(one.p[name] < limit for one in found)
            rows.append(f"| {limit} | {name} | {count} of {len(found)} | {_columns(found, gains)} | {_worst(gains)} |")
    return "\n".join(rows)


def _groups(found: Sequence[Cell]) -> str:
    rows = ["| what runs keep | score | loss | ECE | worst score | worst loss |", "|---|---:|---:|---:|---:|---:|"]
    keys = {(one.size, one.text, one.method) for one in found}
    for key in sorted(keys, key=lambda one: (len(one[0]), *one)):
        inside = [one for one in found if (one.size, one.text, one.method) == key]
        name = f"{key[0]} rows, {'texts' if key[1] else 'images'}, {key[2]} ({len(inside)})"
        gains = np.array([one.kept(MEAN, MAX_P) for one in inside])
        rows.append(f"| {name} | {_columns(inside, gains)} | {_worst(gains)} |")
    return "\n".join(rows)


def _columns(found: Sequence[Cell], gains: np.ndarray) -> str:
    sets = np.array([one.data for one in found])
    return " | ".join(shown(*mean_over_sets(column, sets)) for column in gains.T)


def _worst(gains: np.ndarray) -> str:
    return f"{gains[:, 0].min():+.3f} | {gains[:, 1].max():+.3f}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes.soups", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("tuned"), metavar="DIR")
    print(report(list(cells(parser.parse_args(arguments).out))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
