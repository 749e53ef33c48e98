"""Labels that the sample contradicts, by confident learning.

Each row gets class probabilities from a model that was trained without it (out of fold). A row is suspected where the
probability of another class is at least what rows of that class usually have (C. Northcutt, L. Jiang and I. Chuang,
Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 2021). To keep false alarms few, the other class must
also be nearly certain, and most of the nearest samples must have it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deeptune.auditing.content import content_of
from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding
from deeptune.auditing.shortcuts import FOLDS, folds
from deeptune.errors import listed

MIN_CLASS_ROWS = 10
MIN_ROWS = 50
MAX_ROWS = 20_000
MIN_CERTAIN = 0.9  # probability of the suspected class
MAX_GIVEN = 0.05  # probability of the given one
MIN_ACCURACY = 0.7  # balanced, out of fold, from which on the model has a say
NEIGHBOURS = 10
MIN_AGREE = 0.9  # share of the nearest samples with the suspected class
MAX_HOLD = 0.0  # share of them with the given one


def suspected_label_errors(data: AuditData) -> Iterator[Finding]:
    """Find rows whose sample looks like another class than their label says."""
    labels = data.labels
    if labels is None or not labels.questions or not labels.classes:
        return
    codes, known = labels.codes, data.usable & (labels.codes >= 0)
    counts = np.bincount(codes[known], minlength=len(labels.classes))
    known &= (counts >= MIN_CLASS_ROWS)[np.maximum(codes, 0)]
    rows = np.sort(data.rng().permutation(np.flatnonzero(known))[:MAX_ROWS])
    if len(rows) < MIN_ROWS or len(np.unique(codes[rows])) < 2:
        return
    data.progress("label errors", 0, 1)
    content = content_of(data, rows)
    if content is None:
        return
    groups = None if data.group is None else data.values(data.group)
    values = codes[rows]
    found = suspects(content, values, None if groups is None else groups[rows])
    data.progress("label errors", 1, 1)
    if found is None:
        data.notes.append(
            "suspected label errors: not looked for, as the class can't be told well enough from "
            + ("the features" if data.features is not None else "the cheap features; --backbone names a better one")
        )
        return
    places, suggested = found
    if not len(places):
        return
    at = rows[places]
    shown = listed(
        (
            f"{data.where(int(row))} is {labels.classes[codes[row]]!r} and looks like {labels.classes[other]!r}"
            for row, other in zip(at[:100], suggested[:100], strict=True)
        ),
        most=3,
    )
    text = f"{len(at):,} of {len(rows):,} labels are contradicted by their sample, most surely first: {shown}"
    yield data.finding("suspected_label_error", "warning", at, text, "look at these rows, and correct wrong labels")


def suspects(
    content: np.ndarray, values: np.ndarray, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Find labels (int64 (N,)) that the content (float32 (N, width)) contradicts.

    Returns the places of suspected rows, the surest first, and the class that each looks like; None where the classes
    can't be told from the content.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    content = content / max(float(content.std()), 1e-12)  # one scale for all: the main components stay the main ones
    classes, codes = np.unique(values, return_inverse=True)
    if np.bincount(codes).min() < FOLDS:
        return None
    model = LogisticRegression(C=0.3, max_iter=200, tol=1e-3)
    chances = cross_val_predict(model, content, codes, cv=folds(codes, groups), groups=groups, method="predict_proba")
    own = chances[np.arange(len(codes)), codes]
    best = chances.argmax(axis=1)
    recalls = np.bincount(codes, best == codes) / np.bincount(codes)
    if recalls.mean() < MIN_ACCURACY:
        return None
    usual = np.bincount(codes, own) / np.bincount(codes)
    certain = chances[np.arange(len(codes)), best]
    doubted = (best != codes) & (certain >= np.maximum(usual[best], MIN_CERTAIN)) & (own <= MAX_GIVEN)
    places = np.flatnonzero(doubted)
    if not len(places):
        return places, places
    near = _neighbours(content, places)
    agree = (codes[near] == best[places, None]).mean(axis=1)
    hold = (codes[near] == codes[places, None]).mean(axis=1)
    kept = (agree >= MIN_AGREE) & (hold <= MAX_HOLD)
    places = places[kept]
    places = places[np.argsort(own[places] - certain[places], kind="stable")]
    return places, classes[best[places]]


def _neighbours(content: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Give the NEIGHBOURS rows (int64 (P, NEIGHBOURS)) whose content is most like that of some rows."""
    centred = content - content.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    alike = unit[places] @ unit.T
    alike[np.arange(len(places)), places] = -np.inf
    return np.argpartition(-alike, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
