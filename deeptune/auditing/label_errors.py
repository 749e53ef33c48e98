"""Labels that the sample contradicts, by confident learning.

Each row gets class probabilities from a model that was trained without it (out of fold), as in C. Northcutt, L. Jiang
and I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 2021. A row is suspected where another
class is likely and the given one is not, most of the nearest samples have the other class, and none has the given one.
Where classes overlap, probabilities alone would suspect far too many rows.

Wrong labels blur the model that looks for them. Where the strict limits find more than exceptions, the model is fitted
again without the suspected rows, with wider limits, until none is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deeptune.auditing.content import content_of
from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding
from deeptune.auditing.shortcuts import FOLDS, folds
from deeptune.errors import listed

MIN_CLASS_ROWS = 10
MIN_ROWS = 50
MAX_ROWS = 20_000
MAX_ROUNDS = 4  # fits, at most
MIN_SHARE = 0.005  # share of suspected rows from which on wrong labels are not exceptions
MIN_ACCURACY = 0.7  # balanced accuracy, out of fold, from which on the model has a say
NEIGHBOURS = 10


@dataclass(frozen=True)
class Limits:
    """When a row is suspected.

    `certain` is the least probability of the other class, `given` the greatest one of the class that the label says.
    `agree` is the least share of the nearest samples that have the other class; none may have the given one.
    """

    certain: float
    given: float
    agree: float


STRICT = Limits(certain=0.9, given=0.05, agree=0.9)
WIDE = Limits(certain=0.5, given=0.1, agree=0.8)


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
            "suspected label errors: not looked for, as the class can't be predicted well enough from "
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
    can't be predicted from the content.
    """
    content = content / max(float(content.std()), 1e-12)  # one scale for all: the main components stay the main ones
    classes, codes = np.unique(values, return_inverse=True)
    if np.bincount(codes).min() < FOLDS:
        return None
    rows, suspected = np.arange(len(codes)), np.zeros(len(codes), bool)
    for number in range(MAX_ROUNDS):
        limits = WIDE if number else STRICT
        chances = _out_of_fold(content, codes, groups, ~suspected)
        own, best = chances[rows, codes], chances.argmax(axis=1)
        if number == 0:
            recalls = np.bincount(codes, best == codes) / np.bincount(codes)
            if recalls.mean() < MIN_ACCURACY:
                return None
        certain = chances[rows, best]
        doubted = (best != codes) & (certain >= limits.certain) & (own <= limits.given) & ~suspected
        places = np.flatnonzero(doubted)
        if len(places):
            agree, hold = _near(content, codes, best, places, ~suspected)
            places = places[(agree >= limits.agree) & (hold == 0)]
        suspected[places] = True
        if not len(places) or suspected.mean() < MIN_SHARE:
            break
    places = np.flatnonzero(suspected & (best != codes))
    places = places[np.argsort(own[places] - certain[places], kind="stable")]
    return places, classes[best[places]]


def _out_of_fold(content: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, used: np.ndarray) -> np.ndarray:
    """Give class probabilities (N, classes) by models that were fitted on the `used` rows (bool) of other folds."""
    from sklearn.linear_model import LogisticRegression

    chances = np.zeros((len(codes), int(codes.max()) + 1))
    for others, fold in folds(codes, groups).split(content, codes, groups):
        others = others[used[others]]
        if len(np.unique(codes[others])) < 2:
            continue  # all rows of the other classes are suspected: nothing is said of this fold
        model = LogisticRegression(C=0.3, max_iter=200, tol=1e-3).fit(content[others], codes[others])
        chances[np.ix_(fold, model.classes_)] = model.predict_proba(content[fold])
    return chances


def _near(
    content: np.ndarray, codes: np.ndarray, best: np.ndarray, places: np.ndarray, used: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give the shares of the nearest `used` rows of some places that have the class `best`, and that of the place."""
    near = _neighbours(content, places, used)
    return (codes[near] == best[places, None]).mean(axis=1), (codes[near] == codes[places, None]).mean(axis=1)


def _neighbours(content: np.ndarray, places: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Give the NEIGHBOURS `used` rows (int64 (P, NEIGHBOURS)) whose content is most like that of some rows."""
    centred = content - content.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    alike = unit[places] @ unit.T
    alike[:, ~used] = -np.inf
    alike[np.arange(len(places)), places] = -np.inf
    return np.argpartition(-alike, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
