"""The comparison of temperatures of fine-tuned models: which models a run keeps, and what a prior gives."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2]))  # last: the package under test may be an installed one

from benchmarks.recipes.tuned import BEFORE, HEAD, OTHERS, Pair, compared, main

SHARP = 3.0  # times too sure


def outputs(name: str, parts: dict[str, int], *, signal: float, sharp: float, seed: int) -> dict[str, np.ndarray]:
    """Outputs whose log odds are right, but for a factor."""
    found = {}
    for part, rows in parts.items():
        truth = np.random.default_rng([seed, *part.encode()]).integers(0, 2, rows)
        noise = np.random.default_rng([seed, 1, *part.encode()]).normal(size=rows)
        odds = 2 * signal * (signal * (2 * truth - 1) + noise)  # of a normal variable with means ± signal
        found[f"truth.{name}.{part}"] = truth
        found[f"logits.{name}.{part}"] = sharp * np.stack([-odds / 2, odds / 2], axis=1)
    return found


def pair(data: str, seed: int, *, signal: float = 1.0) -> Pair:
    head = outputs("head", {"val": 30, "folds": 200, "test": 2000}, signal=0.5, sharp=1.0, seed=seed)
    tuned = outputs("tuned", {"val": 30, "test": 2000}, signal=signal, sharp=SHARP, seed=seed)
    return Pair(data, "150", "full", str(seed), False, head, tuned)


def test_a_run_keeps_what_is_better_than_its_head_by_more_than_chance():
    assert pair("a", 0).kept
    assert not pair("a", 0, signal=0.1).kept
    assert not Pair("a", "150", "full", "0", False, pair("a", 0).head, {}).kept


def test_the_prior_of_the_other_sets_knows_how_sure_models_are():
    pairs = [pair(name, seed) for name in ("a", "b", "c") for seed in range(2)]
    ways = compared(pairs)
    assert np.mean([one.best_log_temperature for one in pairs]) == pytest.approx(np.log(SHARP), abs=0.1)
    losses = {way: np.mean([one[way].log_loss for one in ways]) for way in ways[0]}
    assert losses["temperature fitted to test"] <= losses[OTHERS] < losses["temperature"] < losses["no temperature"]
    assert losses[BEFORE] < losses[HEAD]
    assert len({one[way].accuracy for one in ways[:1] for way in one if way != HEAD}) == 1
    assert OTHERS not in compared(pairs[:2])[0]


def test_the_report_has_the_models_that_a_run_keeps_apart(tmp_path, capsys):
    folder = tmp_path / "outputs"
    folder.mkdir()
    for name, found in (("a", pair("a", 0)), ("b", pair("b", 1, signal=0.1))):
        np.savez(folder / f"{name}-150-partial-0.npz", text=False, **found.head)
        np.savez(folder / f"{name}-150-full-0.npz", text=False, **found.tuned)
    np.savez(folder / "c-150-lora-0.npz", text=False)
    assert main(["--out", str(tmp_path), "--report"]) == 0
    told = capsys.readouterr().out
    assert "all fine-tuned models: 2 cells of 2 sets; log T fitted to test" in told
    assert "those that a run keeps: 1 cells of 1 sets" in told
