"""The comparison of the best epoch with the mean of the best ones, from outputs on file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score

sys.path.append(str(Path(__file__).parents[2]))  # last: the package under test may be an installed one

from benchmarks.recipes.soups import EPOCH, MEAN, cells, main

RNG = np.random.default_rng(0)
ROWS = {"val": 60, "folds": 90, "test": 400}


def outputs(names: dict[str, float], parts: tuple[str, ...], *, numbers: bool = False) -> dict[str, np.ndarray]:
    """Outputs of models that see the truth with this much noise."""
    found = {}
    for name, noise in names.items():
        for part in parts:
            rng = np.random.default_rng([*part.encode()])
            truth = rng.normal(size=ROWS[part]) if numbers else rng.integers(0, 2, ROWS[part])
            seen = 2 * truth - 1 if not numbers else truth
            seen = seen + noise * RNG.normal(size=len(truth))
            found[f"target.{name}.{part}"] = truth
            found[f"logits.{name}.{part}"] = seen[:, None] if numbers else np.stack([-seen, seen], axis=1)
    return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "outputs").mkdir()
    for data, numbers in (("flowers", False), ("angles", True)):
        head = outputs({"head": 2.0}, ("val", "folds", "test"), numbers=numbers)
        tuned = outputs({EPOCH: 1.9, MEAN: 0.5}, ("val", "test"), numbers=numbers)
        np.savez(tmp_path / "outputs" / f"{data}-150-partial-0.npz", text=False, **head)
        np.savez(tmp_path / "outputs" / f"{data}-150-full-0.npz", text=False, **tuned)
    np.savez(tmp_path / "outputs" / "flowers-150-lora-0.part.npz", text=False)
    return tmp_path


def test_gains_are_scikit_learns_scores_less_the_heads(folder):
    angles, flowers = cells(folder)
    for one, score in ((flowers, lambda truth, out: accuracy_score(truth, out.argmax(1))), (angles, r2_score)):
        head, tuned = (np.load(folder / "outputs" / f"{one.data}-150-{method}-0.npz") for method in ("partial", "full"))
        of_head = score(head["target.head.test"], head["logits.head.test"])
        for name in (EPOCH, MEAN):
            expected = score(tuned[f"target.{name}.test"], tuned[f"logits.{name}.test"]) - of_head
            assert one.gains[name][0] == pytest.approx(expected)
    assert flowers.p[MEAN] < 0.001 < flowers.p[EPOCH]


def test_what_val_turns_down_is_the_head(folder, capsys):
    (_, flowers) = cells(folder)
    assert not flowers.kept(EPOCH, flowers.p[EPOCH]).any()
    assert flowers.kept(MEAN, 0.05) is flowers.gains[MEAN]
    assert main(["--out", str(folder)]) == 0
    told = capsys.readouterr().out
    assert f"| 0.05 | mean | 1 of 1 | {flowers.gains[MEAN][0]:+.3f} |" in told
    assert "| 150 rows, images, full (1) |" in told
