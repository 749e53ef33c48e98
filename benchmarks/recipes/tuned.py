"""Measures temperatures of fine-tuned models beside their heads: `python -m benchmarks.recipes.tuned`.

Each cell (data set, size, seed, method) trains a head and a model, and keeps their outputs in a file of `--out`. A
second start trains only what is missing. Temperatures are then fitted to val alone, with priors of the logarithm, or to
test itself. A prior of the other sets is the one with the lowest log loss on their test rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import log_softmax

from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import available, write_files
from benchmarks.recipes.recording import record
from deeptune.engine.choice import MAX_P, ValLosses, compare
from deeptune.tasks.confidence.calibrator_choice import ClassLink, choose
from deeptune.tasks.confidence.calibrators import Calibrator, fit_classes
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.metric_functions import calibration_error
from deeptune.tasks.temperature import fit_temperature
from deeptune.tasks.temperature_prior import FINE_TUNED, Prior

TO_CHOOSE: Sequence[Prior] = [
    Prior(mean, spread) for mean in np.arange(-0.6, 1.6, 0.3) for spread in (0.15, 0.3, 0.6, 1.2)
]
HEAD, BEFORE, NOW = "head", "auto, no prior", "auto, the prior of a run"
OTHERS = "temperature, prior of the other sets"
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Scores:
    """Accuracy, log loss and ECE on test."""

    accuracy: float
    log_loss: float
    ece: float


def row_losses(scores: np.ndarray, truth: np.ndarray, temperature: float) -> np.ndarray:
    logs = log_softmax(scores.astype(np.float64) / temperature, axis=1)
    return np.asarray(-logs[np.arange(len(truth)), truth])


@dataclass(frozen=True)
class Pair:
    """The outputs of a head and of the model that was fine-tuned from it; `tuned` has none where val says no."""

    data: str
    size: str
    method: str
    seed: str
    text: bool
    head: Arrays
    tuned: Arrays

    @property
    def learned(self) -> bool:
        """Whether an epoch of fine-tuning beat the head on val."""
        return "logits.tuned.val" in self.tuned

    @property
    def kept(self) -> bool:
        """Whether a run keeps fine-tuning: val says that it is better by more than chance."""
        if not self.learned:
            return False
        sides = [(self.head, "head"), (self.tuned, "tuned")]
        losses = []
        for arrays, name in sides:
            scores, truth = arrays[f"logits.{name}.val"], arrays[f"truth.{name}.val"]
            losses.append(ValLosses(row_losses(scores, truth, fit_temperature(scores, truth)), np.ones(len(truth))))
        return compare(*losses).p < MAX_P

    def of_head(self) -> Scores:
        """Score the head with the confidence that a run gives it, of val and of the folds."""
        both = [
            np.concatenate([self.head[f"{what}.head.{part}"] for part in ("val", "folds")])
            for what in ("logits", "truth")
        ]
        return self._calibrated(self._chosen(both[0], both[1]), self.head["logits.head.test"])

    def of_auto(self, prior: Prior | None = None) -> Scores:
        """Score the fine-tuned model with the calibrator that a run chooses."""
        return self._calibrated(self._chosen(*self._val, prior), self.tuned["logits.tuned.test"])

    def of_temperature(self, prior: Prior | None = None) -> Scores:
        """Score the fine-tuned model with a temperature."""
        return self._calibrated(fit_classes("temperature", *self._val, prior), self.tuned["logits.tuned.test"])

    def of_itself(self) -> Scores:
        """Score the fine-tuned model as it is."""
        return self._calibrated(Calibrator("none"), self.tuned["logits.tuned.test"])

    def at_best(self) -> Scores:
        """Score the fine-tuned model with the temperature that is right on test."""
        best = Calibrator("temperature", ((float(np.exp(self.best_log_temperature)),),))
        return self._calibrated(best, self.tuned["logits.tuned.test"])

    @property
    def best_log_temperature(self) -> float:
        """The logarithm of the temperature that is right on test."""
        return float(np.log(fit_temperature(self.tuned["logits.tuned.test"], self.tuned["truth.tuned.test"])))

    @property
    def _val(self) -> tuple[np.ndarray, np.ndarray]:
        return self.tuned["logits.tuned.val"], self.tuned["truth.tuned.val"]

    def _chosen(self, scores: np.ndarray, truth: np.ndarray, prior: Prior | None = None) -> Calibrator:
        return choose(ClassLink(scores.shape[1], prior), HeldOut(scores, truth), "auto").calibrator

    def _calibrated(self, calibrator: Calibrator, scores: np.ndarray) -> Scores:
        truth, chances = self.head["truth.head.test"], calibrator.of_classes(scores)
        right = chances.argmax(axis=1) == truth
        loss = float(-np.log(np.clip(chances[np.arange(len(truth)), truth], 1e-15, 1)).mean())
        return Scores(float(right.mean()), loss, calibration_error(chances.max(axis=1), right))


def compared(pairs: Sequence[Pair]) -> list[dict[str, Scores]]:
    """Score each pair on test: the head, and the fine-tuned model in each way."""
    losses = {prior: np.array([pair.of_temperature(prior).log_loss for pair in pairs]) for prior in TO_CHOOSE}
    sets = np.array([pair.data for pair in pairs])
    found = []
    for pair in pairs:
        others = sets != pair.data
        ways = {
            HEAD: pair.of_head(),
            BEFORE: pair.of_auto(),
            NOW: pair.of_auto(FINE_TUNED),
            "no temperature": pair.of_itself(),
            "temperature": pair.of_temperature(),
            "temperature, prior 0 ± 0.6": pair.of_temperature(Prior(0.0, 0.6)),
            "temperature, the prior of a run": pair.of_temperature(FINE_TUNED),
        }
        if others.any():
            best = min(TO_CHOOSE, key=lambda prior: mean_over_sets(losses[prior][others], sets[others])[0])
            ways[OTHERS] = pair.of_temperature(best)
        found.append({**ways, "temperature fitted to test": pair.at_best()})
    return found


def mean_over_sets(values: np.ndarray, sets: np.ndarray) -> tuple[float, float]:
    """Return the mean over sets of their means, and its standard error: cells of a set depend on one another."""
    means = [float(values[sets == name].mean()) for name in np.unique(sets)]
    return float(np.mean(means)), float(stats.sem(means)) if len(means) > 1 else np.nan


def report(pairs: Sequence[Pair]) -> str:
    """Draw what temperatures give, for all fine-tuned models and for those of each method and modality."""
    learned = [pair for pair in pairs if pair.learned]
    if not learned:
        return "no fine-tuned model beat its head on val"
    scores = compared(learned)
    parts = [("all fine-tuned models", [True] * len(learned))]
    for method in ("full", "lora"):
        for text in (False, True):
            chosen = [pair.method == method and pair.text == text for pair in learned]
            parts.append((f"{method}, {'texts' if text else 'images'}", chosen))
    parts.append(("those that a run keeps", [pair.kept for pair in learned]))
    drawn = [
        _table(
            name,
            [pair for pair, one in zip(learned, chosen, strict=True) if one],
            [ways for ways, one in zip(scores, chosen, strict=True) if one],
        )
        for name, chosen in parts
        if any(chosen)
    ]
    return "\n\n".join(
        [
            *drawn,
            _by_set(learned, scores),
        ]
    )


def _table(name: str, pairs: Sequence[Pair], scores: Sequence[dict[str, Scores]]) -> str:
    sets = np.array([pair.data for pair in pairs])
    best = np.array([pair.best_log_temperature for pair in pairs])
    spread = f" ± {best.std(ddof=1):.2f} (standard deviation)" if len(best) > 1 else ""
    rows = [f"{name}: {len(pairs)} cells of {len(set(sets))} sets; log T fitted to test {best.mean():.2f}{spread}", ""]
    rows.append("| way | log loss less head's | ECE less head's | log loss less that without a prior | ECE less that |")
    rows.append("|---|---:|---:|---:|---:|")
    metrics: tuple[Callable[[Scores], float], ...] = (lambda one: one.log_loss, lambda one: one.ece)
    for way in scores[0]:
        gaps = [
            mean_over_sets(np.array([metric(ways[way]) - metric(ways[against]) for ways in scores]), sets)
            for against in (HEAD, BEFORE)
            for metric in metrics
        ]
        rows.append(f"| {way} | " + " | ".join(shown(*gap) for gap in gaps) + " |")
    return "\n".join(rows)


def _by_set(pairs: Sequence[Pair], scores: Sequence[dict[str, Scores]]) -> str:
    """Draw what the prior of a run changes on each set, ± the standard error over its cells."""
    rows = ["with the prior of a run less without", "", "| set | cells | log T fitted to test | log loss | ECE |"]
    rows.append("|---|---:|---:|---:|---:|")
    for name in sorted({pair.data for pair in pairs}):
        inside = [at for at, pair in enumerate(pairs) if pair.data == name]
        best = np.array([pairs[at].best_log_temperature for at in inside])
        gaps = [
            np.array([metric(scores[at][NOW]) - metric(scores[at][BEFORE]) for at in inside])
            for metric in (lambda one: one.log_loss, lambda one: one.ece)
        ]
        columns = [shown(float(gap.mean()), float(stats.sem(gap)) if len(gap) > 1 else np.nan) for gap in gaps]
        rows.append(f"| {name} | {len(inside)} | {best.mean():.2f} | {' | '.join(columns)} |")
    return "\n".join(rows)


def shown(mean: float, error: float) -> str:
    return f"{mean:+.3f}" + ("" if np.isnan(error) else f" ± {error:.3f}")


def kept_pairs(folder: Path) -> Iterator[Pair]:
    """Yield the pairs whose outputs are below a folder; a model without its head is passed over."""
    for path in sorted((folder / "outputs").glob("*.npz")):
        name, size, method, seed = path.stem.rsplit("-", 3)
        head = path.with_name(f"{name}-{size}-partial-{seed}.npz")
        if method != "partial" and head.exists():
            tuned = np.load(path)
            yield Pair(name, size, method, seed, bool(tuned["text"]), np.load(head), tuned)


def train(chosen: argparse.Namespace) -> None:
    """Train the cells that are missing, seed by seed, so that an early report has every data set."""
    sets = available(chosen.data)
    for seed in range(chosen.seeds):
        for name in chosen.sets:
            data = sets[name]()
            backbone = chosen.text_backbone if data.modality == "text" else chosen.image_backbone
            for size, method in ((size, method) for size in chosen.sizes for method in ("partial", *chosen.methods)):
                path = chosen.out / "outputs" / f"{name}-{size}-{method}-{seed}.npz"
                if path.exists():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                files = write_files(data, size, seed, chosen.out / "data", chosen.test_rows)
                settings = (f"tuning.method={method}", *chosen.set)
                arrays = record(Cell(name, size, backbone, method, seed), data, files, settings, chosen.out / "runs")
                unfinished = path.with_suffix(".part.npz")
                np.savez_compressed(unfinished, text=np.array(data.modality == "text"), **arrays)  # type: ignore[arg-type]
                unfinished.replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes.tuned", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=Path("tuned"), metavar="DIR")
    add("--data", type=Path, metavar="FOLDER", help="NAME_train.parquet and NAME_test.parquet for each data set")
    add("--sets", nargs="+", metavar="NAME", default=["openclipart7", "digits"])
    add("--sizes", nargs="+", default=["150", "400"], metavar="ROWS")
    add("--seeds", type=int, default=3)
    add("--methods", nargs="+", choices=["full", "lora"], default=["full", "lora"])
    add("--test-rows", type=int, default=600, metavar="N")
    add("--image-backbone", default="efficientnet_lite0@32", metavar="NAME[@PIXELS]")
    add("--text-backbone", default="minilm", metavar="NAME")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="for each run")
    add("--report", action="store_true", help="print what there is; nothing is trained")
    chosen = parser.parse_args(arguments)
    if not chosen.report:
        train(chosen)
    print(report(list(kept_pairs(chosen.out))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
