"""The comparison of exact heads with scikit-learn on frozen features: its heads, its rows and its table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

sys.path.append(str(Path(__file__).parents[2]))  # last: the package under test may be an installed one

from benchmarks.recipes.frozen import Frozen
from benchmarks.recipes.heads import EXACT, LINEAR, RESULTS, VAL_ALONE, Head, Rows, main


def stored(*, numbers: bool) -> Frozen:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 12)).astype(np.float32)
    y = x[:, 0] - 2 * x[:, 1] + rng.normal(size=300)
    labels = y if numbers else np.where(y > 0, "up", "down")
    return Frozen(x[:200], labels[:200], x[200:], labels[200:], numbers)


def test_a_head_of_numbers_is_the_ridge_regression_on_all_rows_at_the_penalty_of_the_folds():
    rows = Rows.of(stored(numbers=True), 80, 3)
    head = Head(rows)
    scaled = [head._scaled(x).numpy() for x in (rows.x, rows.test_x)]
    ridge = Ridge(alpha=head.folds.penalties[head.folds.best] / 2).fit(scaled[0], rows.y)
    found = head.scores()
    assert len(rows.x) == 80
    assert found["r2"] == pytest.approx(r2_score(rows.test_y, ridge.predict(scaled[1])), abs=1e-5)
    assert 0.7 < found["coverage"] <= 1


def test_confidence_is_fitted_to_val_alone_or_to_the_folds_too():
    head = Head(Rows.of(stored(numbers=False), 80, 0))
    both, alone = head.scores(), head.scores(folds=False)
    assert both["accuracy"] == alone["accuracy"] > 0.7
    assert {"log_loss", "ece"} <= both.keys()
    assert head.calibrated(folds=True).confidence != head.calibrated(folds=False).confidence


def test_the_report_has_means_and_paired_differences(tmp_path, capsys):
    lines = [
        {"data": "d", "size": 150, "seed": seed, "scores": {
            EXACT: {"r2": 0.5 + seed, "coverage": 0.9}, VAL_ALONE: {"r2": 0.5 + seed, "coverage": 0.7},
            LINEAR: {"r2": 0.4 + seed},
        }}
        for seed in range(2)
    ]  # fmt: skip
    (tmp_path / RESULTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["--out", str(tmp_path), "--report"]) == 0
    told = capsys.readouterr().out
    assert "| d, 150 | 2 | r2 | 1.000 | 0.900 | 1.000 | +0.100 ± 0.000 | +0.000 ± 0.000 |" in told
    assert "| d, 150 | 2 | coverage | 0.900 |  | 0.700 |  | +0.200 ± 0.000 |" in told
