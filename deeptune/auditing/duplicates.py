"""Samples that are identical, byte for byte, and the common part of near duplicates: sets of rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding
from deeptune.data.splits.duplicates import duplicate_sets
from deeptune.formatting import counted

COSINE = 0.98  # cosine of the features from which on a backbone takes two samples for the same
MAX_COMPARED = 20_000  # rows whose features are compared with those of all others
BLOCK = 1024


def exact_duplicates(data: AuditData) -> Iterator[Finding]:
    """Find identical samples within a split, and between splits; those with different labels apart."""
    sets = duplicate_sets(data.measures.hashes)
    if not sets.any():
        return
    clash = differing(data, sets)
    across = crossing_splits(data, sets)
    yield from _conflicts(data, sets, clash)
    yield from _across(data, sets, across)
    within = sets.copy()
    within[clash | ~_repeated_in_split(data, sets)] = 0
    rows = by_set(within)
    if len(rows):
        spare = len(rows) - len({(sets[at], data.split[at]) for at in rows.tolist()})
        adds = "adds" if spare == 1 else "add"
        text = (
            f"{len(rows):,} rows are identical to another one with the same label; {spare:,} of them {adds} nothing: "
        )
        text += examples(data, within)
        fix = f'{_dropping(data)}, or data.duplicates = "group" to keep them in one split'
        yield data.finding("exact_duplicate", "warning", rows, text, fix)


def _conflicts(data: AuditData, sets: np.ndarray, clash: np.ndarray) -> Iterator[Finding]:
    rows = by_set(np.where(clash, sets, 0))
    if len(rows):
        text = f"{len(rows):,} rows are identical to another one with a different label, so no model gets all of them "
        text += f"right: {examples(data, np.where(clash, sets, 0), labels=True)}"
        yield data.finding("exact_duplicate", "error", rows, text, "correct the labels, or leave these rows out")


def _across(data: AuditData, sets: np.ndarray, across: np.ndarray) -> Iterator[Finding]:
    rows = by_set(np.where(across, sets, 0))
    if len(rows):
        are = counted(len(rows), "row is", "rows are")
        text = f"{are} identical to a row of another split, so a score on them rewards memorisation: "
        text += examples(data, np.where(across, sets, 0))
        yield data.finding("cross_split_duplicate", "error", rows, text, crossing_fix(data))


def crossing_fix(data: AuditData) -> str:
    """Say how samples that are in two splits get into one."""
    if data.split_column is not None:
        return f"{_dropping(data)}; it keeps the row of test"
    return 'leave them out of one file, or name all files in data.path with data.duplicates = "group"'


def _dropping(data: AuditData) -> str:
    one = len(data.sources) == 1
    return "deeptune audit … --fix CLEAN.parquet drops them" if one else "leave them out of their file"


def differing(data: AuditData, sets: np.ndarray) -> np.ndarray:
    """Mark the rows of sets whose labels differ (bool (N,))."""
    clash = np.zeros(len(data), bool)
    if data.labels is None:
        return clash
    labels = data.labels
    compared = [np.where(labels.missing, np.nan, labels.codes)] if len(labels.codes) else []
    for given in compared or [np.where(one.known, one.values, np.nan) for one in labels.questions]:
        values = np.where(sets > 0, given, np.nan)
        known = np.isfinite(values)
        lowest = np.full(sets.max() + 1, np.inf)
        highest = -lowest
        np.minimum.at(lowest, sets[known], values[known])
        np.maximum.at(highest, sets[known], values[known])
        clash |= (lowest < highest)[sets] & (sets > 0)
    return clash


def crossing_splits(data: AuditData, sets: np.ndarray) -> np.ndarray:
    """Mark the rows of sets that are in more than one split (bool (N,))."""
    known = (sets > 0) & (data.split >= 0)
    pairs = np.unique(np.stack([sets[known], data.split[known]]), axis=1)
    several = np.bincount(pairs[0].astype(np.int64), minlength=sets.max() + 1) > 1
    return several[sets] & known


def _repeated_in_split(data: AuditData, sets: np.ndarray) -> np.ndarray:
    """Mark the rows with another of their set in the same split (bool (N,))."""
    keys = sets * (len(data.split_names) + 1) + data.split + 1
    _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return (counts[place] > 1) & (sets > 0)


def by_set(sets: np.ndarray) -> np.ndarray:
    """List the rows that are in a set, those of one set beside each other."""
    rows = np.flatnonzero(sets)
    return rows[np.argsort(sets[rows], kind="stable")]


def examples(data: AuditData, sets: np.ndarray, *, labels: bool = False, most: int = 3) -> str:
    """Name the rows of the first sets: `row 3 = row 17, row 5 = row 9 and 4 more`."""
    numbers = np.unique(sets[sets > 0])
    texts = []
    for number in numbers[:most]:
        rows = np.flatnonzero(sets == number)
        names = [data.where(int(at)) for at in rows[:3]]
        if labels and data.labels is not None:
            names = [f"{name} ({data.labels.text(int(at))})" for name, at in zip(names, rows, strict=False)]
        texts.append(" = ".join(names) + (" = …" if len(rows) > 3 else ""))
    more = f" and {len(numbers) - most:,} more" if len(numbers) > most else ""
    return ", ".join(texts) + more


def sets_of_pairs(pairs: np.ndarray, rows: int) -> np.ndarray:
    """Number the sets that pairs (int64 (P, 2)) connect: int64 (N,), 0 for rows in no pair."""
    sets = np.zeros(rows, np.int64)
    if not len(pairs):
        return sets
    from scipy.sparse import coo_array  # a tenth of a second, and a run does without
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(rows, rows))
    part = connected_components(links, directed=False)[1]
    paired = np.unique(pairs)
    sets[paired] = np.unique(part[paired], return_inverse=True)[1] + 1
    return sets


def alike(features: np.ndarray) -> np.ndarray:
    """Pair the rows (int64 (P, 2)) that a backbone takes for the same, by their features (float32 (N, width)).

    There are none for more than MAX_COMPARED rows.
    """
    known = np.flatnonzero(np.isfinite(features).all(axis=1))
    if not 2 <= len(known) <= MAX_COMPARED:
        return np.zeros((0, 2), np.int64)
    unit = features[known] / np.maximum(np.linalg.norm(features[known], axis=1, keepdims=True), 1e-12)
    found = []
    for start in range(0, len(unit), BLOCK):
        near = np.argwhere(unit[start : start + BLOCK] @ unit.T > COSINE)
        near[:, 0] += start
        found.append(near[near[:, 0] < near[:, 1]])
    return known[np.concatenate(found)]


def near_findings(data: AuditData, sets: np.ndarray, what: str) -> Iterator[Finding]:
    """Report sets of nearly identical samples: within a split, and between splits."""
    if not sets.any():
        return
    across = np.where(crossing_splits(data, sets), sets, 0)
    rows = by_set(across)
    if len(rows):
        are = counted(len(rows), "row is", "rows are")
        text = f"{are} nearly identical to a row of another split ({what}), so a score on them "
        text += f"rewards memorisation: {examples(data, across)}"
        yield data.finding("cross_split_duplicate", "warning", rows, text, near_fix(data, across=True))
    within = np.where(_repeated_in_split(data, sets), sets, 0)
    clash = differing(data, within) if data.labels is not None and data.labels.classes else np.zeros(len(data), bool)
    rows = by_set(np.where(clash, within, 0))
    if len(rows):
        text = f"{len(rows):,} rows are nearly identical to a row with a different label ({what}): "
        text += examples(data, np.where(clash, within, 0), labels=True)
        yield data.finding("near_duplicate", "warning", rows, text, "look at their labels; " + near_fix(data))
    rows = by_set(np.where(clash, 0, within))
    if len(rows):
        text = f"{len(rows):,} rows are nearly identical to another one ({what}): "
        text += examples(data, np.where(clash, 0, within))
        yield data.finding("near_duplicate", "warning", rows, text, near_fix(data))


def near_fix(data: AuditData, *, across: bool = False) -> str:
    """Say how near duplicates stay in one split."""
    if len(data.sources) == 1:
        return 'deeptune audit … --fix CLEAN.parquet, then data.group = "duplicate_group" keeps them in one split'
    return "move them into one file" if across else "leave out those that add nothing"
