"""Counts the looks at a test set: by the run, by later commands, and by other runs in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deeptune.arrow import keys_of
from deeptune.errors import DeepTuneError, SpecError
from deeptune.report.finished_run import FinishedRun
from deeptune.runs.directory import RunDirectory, runs_in
from deeptune.runs.files import read_json_object
from deeptune.runs.looks import read_looks

MAX_RUNS = 1000  # runs of the folder that are looked at, the newest


def test_looks(run: FinishedRun) -> dict[str, Any]:
    """Return for report.json how often the test rows were scored, None where the run does not say, and by whom else.

    `later` are the looks of `deeptune evaluate`, `explain` and their like in Python: time, command, number of rows.
    """
    looks = read_looks(run.files)
    return {
        "scored_by_run": sum(look.by == "run" for look in looks) or None,
        "later": [asdict(look) for look in looks if look.by != "run"],
        "other_runs": other_looks(run),
        "groups_in_train": groups_in_train(run),
    }


def looks_said(run: FinishedRun, found: Mapping[str, Any]) -> list[str]:
    """Say what `test_looks` found in sentences for a paper."""
    texts = []
    if own := found["scored_by_run"]:
        texts.append(f"The test rows were scored {_times(own)} by the run.")
    later = [
        f"`deeptune {by}` {_times(len(rows))} (at most {max(rows):,} {'row' if max(rows) == 1 else 'rows'})"
        for by in ("evaluate", "compare", "explain")
        if (rows := [look["rows"] for look in found["later"] if look["by"] == by])
    ]
    if later:
        texts.append(f"Later they were looked at by {' and '.join(later)}.")
    if others := len(found["other_runs"]):
        runs = "other run was" if others == 1 else "other runs were"
        texts.append(f"{others:,} {runs} scored on the same test rows.")
    if both := found["groups_in_train"]:
        group = run.spec.data.group
        texts.append(
            f"{both:,} {'group' if both == 1 else 'groups'} ({group}) of the test split {'is' if both == 1 else 'are'} "
            "in the training split too, so these values are optimistic."
        )
    return texts


def twins_said(run: FinishedRun, metrics: Mapping[str, Any]) -> list[str]:
    """Say how many scored rows are identical to one that the model learned from. `metrics` are those of their split."""
    alone = (metrics.get("without_duplicates") or {}).get("n")
    if isinstance(alone, int) and alone < metrics.get("n", 0):
        twins = metrics["n"] - alone
        are = "is an exact duplicate" if twins == 1 else "are exact duplicates"
        return [f"{twins:,} of these rows {are} of a row that the model was trained on."]
    if alone is None and run.split == "test" and run.files.learnt_hashes.is_file():
        return ["None of these rows is an exact duplicate of a row that the model was trained on."]
    return []


def groups_in_train(run: FinishedRun, split: str = "test") -> int:
    """Count the groups of a split that have rows in train too, as a given split may have; 0 without groups."""
    path = run.files.splits
    if run.spec.data.group is None or not path.is_file() or "group" not in pq.read_schema(path).names:
        return 0
    table = pq.read_table(path, columns=["split", "group"])
    if (groups := keys_of(table["group"])) is None:
        return 0
    here, train = (groups.filter(pc.equal(table["split"], name)).drop_null().unique() for name in (split, "train"))
    return int(pc.sum(pc.is_in(here, value_set=train)).as_py() or 0)


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def other_looks(run: FinishedRun) -> list[str]:
    """Return the names of the other runs beside this one that scored exactly its test rows, in order.

    Whoever chooses the best of them by its test score reports an optimistic number. Runs in other folders are not
    known.
    """
    own = _fingerprints(run.run)
    rows = _test_rows(run.files.splits)
    if not own or rows is None or not len(rows):
        return []
    home = run.files.path.resolve()
    with suppress(SpecError):  # the folder may not be read
        others = [files for files in runs_in(home.parent)[:MAX_RUNS] if files.path != home]
        return sorted(files.id for files in others if _scored(files, own, rows))
    return []


def _scored(files: RunDirectory, fingerprints: dict[str, str], rows: np.ndarray) -> bool:
    try:
        if not files.result.is_file():
            return False
        theirs_of = _fingerprints(read_json_object(files.run))
        key = "test" if "test" in fingerprints and "test" in theirs_of else "data"  # runs of before have "data" alone
        if theirs_of.get(key) is None or theirs_of.get(key) != fingerprints.get(key):
            return False
        if not read_json_object(files.metrics).get("test", {}).get("n"):
            return False
        theirs = _test_rows(files.splits)
    except (DeepTuneError, OSError, ValueError):
        return False  # a run that is damaged says nothing
    return theirs is not None and np.array_equal(theirs, rows)


def _fingerprints(record: dict[str, Any]) -> dict[str, str]:
    found = record.get("fingerprints")
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _test_rows(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    table = pq.read_table(path, columns=["row", "split"])
    return np.sort(table.filter(pc.equal(table["split"], "test"))["row"].to_numpy())
