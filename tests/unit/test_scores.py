"""The table of scores: no name of a metric is cut, however narrow it is."""

from __future__ import annotations

import re

import pytest

from tui.widgets.scores import score_rows

METRICS = {
    "test": {"accuracy": 0.8, "ece": 0.1, "n": 84,
             "per_class": [{"class": name, "f1": 0.5, "recall": 0.5, "support": 40} for name in ("a", "b" * 40)]},
    "val": {"accuracy": 0.9, "ece": 0.2, "n": 80},
}  # fmt: skip


@pytest.mark.parametrize("width", [27, 38, 78, 160])
def test_names_wrap_and_are_never_cut(width: int) -> None:
    lines = ["".join(text for text, _ in row) for row in score_rows(METRICS, width)]
    assert all(len(line.rstrip()) <= width for line in lines)
    names = "".join(re.sub(r"( +[\d.]+)+$", "", line).strip() for line in lines).replace(" ", "")
    assert "Expectedcalibrationerror" in names
    assert "b" * 40 in names
    assert any("0.100" in line and "0.200" in line for line in lines)


def test_wide_ones_have_the_name_on_one_line() -> None:
    lines = ["".join(text for text, _ in row) for row in score_rows(METRICS, 78)]
    assert any("Expected calibration error" in line and "0.100" in line for line in lines)
