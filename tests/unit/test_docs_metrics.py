"""docs/metrics.md has a row for each metric."""

from __future__ import annotations

import re
from pathlib import Path

from deeptune.spec.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_each_metric_has_a_row_with_its_best_value():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d?) ?\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows.keys() == METRICS.keys()
    assert {name: float(best) for name, best in rows.items() if best} == {
        name: METRICS[name].range[1] for name, best in rows.items() if best
    }
