"""Comparison of runs: the differences of their specs, and the best on test."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deeptune.errors import CheckpointError
from deeptune.report.tables import TITLES, value_text
from deeptune.runs import RunDirectory
from deeptune.runs.files import read_json
from deeptune.runs.notes import read_notes
from deeptune.spec.metrics import lower_is_better, shown_metrics
from deeptune.spec.toml import flat

ABSENT = "-"


@dataclass(frozen=True)
class Facts:
    """The facts in the files of a run. Missing or damaged parts are empty.

    `rows` are those of the test split. `name` is the one that a person gave the run.
    """

    spec: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    rows: tuple[int, ...] = ()
    name: str = ""


def read_facts(run: RunDirectory) -> Facts:
    """Read files, so a thread calls it."""
    try:
        spec = flat(tomllib.loads(run.spec.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        spec = {}
    return Facts(
        spec,
        _json(run, "metrics", "test"),
        _json(run, "run", "fingerprints").get("data", ""),
        _test_rows(run),
        read_notes(run).name,
    )


def _json(run: RunDirectory, file: str, key: str) -> dict[str, Any]:
    try:
        found = read_json(getattr(run, file))[key]
    except (CheckpointError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _test_rows(run: RunDirectory) -> tuple[int, ...]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(run.splits, columns=["row", "split"]).to_pydict()
    except (OSError, ValueError, KeyError):  # Arrow's errors are among these
        return ()
    return tuple(row for row, split in zip(table["row"], table["split"], strict=True) if split == "test")


def differences(specs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return (key, its value in each spec) of the keys that are not the same in all; without the runs' names."""
    keys = dict.fromkeys(key for spec in specs for key in spec if key != "name")
    found = [(key, [spec.get(key, None) for spec in specs]) for key in keys]
    return [(key, [_text(value) for value in values]) for key, values in found if any(v != values[0] for v in values)]


def _text(value: Any) -> str:
    return ABSENT if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def scores(tests: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], list[bool]]]:
    """List the test metrics as (title, value of each run, whether it is the best).

    No value is the best if there is only one, or all print the same.
    """
    rows = []
    shown = {name for test in tests for name in shown_metrics(test)}
    for name, title in TITLES.items():
        if name not in shown:
            continue
        values = [test.get(name) for test in tests]
        texts = [value_text(name, value) if name in test else ABSENT for test, value in zip(tests, values, strict=True)]
        known = [value for value in values if isinstance(value, (int, float)) and not math.isnan(value)]
        if known:
            top = min(known) if lower_is_better(name) else max(known)
            best = [text == value_text(name, top) for text in texts]
            one_is = len(known) > 1 and not all(best)
            rows.append((title, texts, [one_is and each for each in best]))
    return rows


def caution(facts: Sequence[Facts]) -> str:
    """Say why the test metrics can't be compared, or return nothing."""
    scored = [each for each in facts if each.test]
    if len({each.data for each in scored if each.data}) > 1:
        return "the runs are not on the same data: their test metrics can't be compared"
    if len({each.rows for each in scored if each.rows}) > 1:
        return "the runs have not the same test rows: their test metrics can't be compared row for row"
    return ""
