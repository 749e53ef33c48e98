"""Measures temperatures of fine-tuned models beside their heads: `python -m benchmarks.recipes.tuned`.

Each cell (data set, size, seed) trains a head and a model, and keeps their outputs in a file of `--out`. A second start
trains only what is missing. Temperatures are then fitted to val alone, with priors of the logarithm, or to test itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import available, write_files
from benchmarks.recipes.recording import record
from deeptune.tasks.confidence.choice import ClassLink, choose
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.metric_functions import calibration_error

PRIORS = {f"prior {mean:g} ± {spread:g}": (mean, spread) for mean in (0.0, 0.5, 0.9) for spread in (0.3, 0.6)}
Arrays = Mapping[str, np.ndarray]


def log_temperature(scores: np.ndarray, truth: np.ndarray, mean: float = 0.0, spread: float = np.inf) -> float:
    """Return the logarithm of the temperature of the least log loss; a normal prior of it counts as its log density."""

    def loss(log: float) -> float:
        found = -log_softmax(scores * np.exp(-log), axis=1)[np.arange(len(truth)), truth].sum()
        return float(found + ((log - mean) / spread) ** 2 / 2)

    return float(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)


def compared(head: Arrays, tuned: Arrays) -> dict[str, tuple[float, float]]:
    """Log loss and ECE on test of the head, and of the fine-tuned model in each way, as the run's default first."""
    val, truth = tuned["logits.tuned.val"], tuned["truth.tuned.val"]
    test, of_test = tuned["logits.tuned.test"], tuned["truth.tuned.test"]

    def scored(scores: np.ndarray, log: float = 0.0) -> tuple[float, float]:
        logs = log_softmax(scores.astype(np.float64) * np.exp(-log), axis=1)
        sure, right = np.exp(logs.max(axis=1)), logs.argmax(axis=1) == of_test
        return float(-logs[np.arange(len(of_test)), of_test].mean()), calibration_error(sure, right)

    def chosen(scores: np.ndarray, true: np.ndarray, applied: np.ndarray) -> tuple[float, float]:
        found = choose(ClassLink(scores.shape[1]), HeldOut(scores, true), "auto").calibrator
        return scored(np.log(np.clip(found.of_classes(applied), 1e-15, 1)))

    both = [np.concatenate([head[f"{what}.head.{part}"] for part in ("val", "folds")]) for what in ("logits", "truth")]
    return {
        "head": chosen(both[0], both[1], head["logits.head.test"]),
        "as it is": chosen(val, truth, test),
        "none": scored(test),
        **{name: scored(test, log_temperature(val, truth, *prior)) for name, prior in PRIORS.items()},
        "fitted to test": scored(test, log_temperature(test, of_test)),
    }


def report(cells: Mapping[str, dict[str, tuple[float, float]]]) -> str:
    """Draw the mean differences from the head and from the default, ± their standard error over the cells."""
    rows = ["| way | log loss less head's | ECE less head's | log loss less default's | ECE less default's |"]
    rows.append("|---|---:|---:|---:|---:|")
    for way in next(iter(cells.values()), {}):
        gaps = [
            [one[way][at] - one[against][at] for one in cells.values()]
            for against in ("head", "as it is")
            for at in (0, 1)
        ]
        rows.append(f"| {way} | " + " | ".join(_mean(values) for values in gaps) + " |")
    return "\n".join([f"{len(cells)} cells", "", *rows])


def _mean(values: list[float]) -> str:
    error = f" ± {stats.sem(values):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):+.3f}{error}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes.tuned", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=Path("tuned"), metavar="DIR")
    add("--data", type=Path, metavar="FOLDER", help="NAME_train.parquet and NAME_test.parquet for each data set")
    add("--sets", nargs="+", metavar="NAME", default=["openclipart7", "digits"])
    add("--sizes", nargs="+", default=["150", "400"], metavar="ROWS")
    add("--seeds", type=int, default=3)
    add("--method", choices=["full", "lora"], default="full")
    add("--test-rows", type=int, default=600, metavar="N")
    add("--image-backbone", default="efficientnet_lite0@32", metavar="NAME[@PIXELS]")
    add("--text-backbone", default="minilm", metavar="NAME")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="for each run")
    chosen = parser.parse_args(arguments)
    sets, cells = available(chosen.data), {}
    for name in chosen.sets:
        data = sets[name]()
        backbone = chosen.text_backbone if data.modality == "text" else chosen.image_backbone
        for size, seed in ((size, seed) for seed in range(chosen.seeds) for size in chosen.sizes):
            found: dict[str, Arrays] = {}
            for method in ("partial", chosen.method):
                path = chosen.out / "outputs" / f"{name}-{size}-{method}-{seed}.npz"
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    files = write_files(data, size, seed, chosen.out / "data", chosen.test_rows)
                    settings = (f"tuning.method={method}", *chosen.set)
                    cell = Cell(name, size, backbone, method, seed)
                    arrays = record(cell, data, files, settings, chosen.out / "runs")
                    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
                found[method] = np.load(path)
            if "logits.tuned.val" in found[chosen.method]:
                cells[f"{name}-{size}-{seed}"] = compared(found["partial"], found[chosen.method])
    print(report(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
