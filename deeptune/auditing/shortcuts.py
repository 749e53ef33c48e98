"""Shortcuts: properties of the files that predict the label, which a model would learn instead of the content.

Each property alone predicts the label by a small tree, out of fold: rows of one group are never on both sides. The
score is compared with chance; its 95% interval must lie beyond a limit. A class may look brighter than another by its
nature: properties that content has a part in need a higher score than those of how a file was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deeptune.auditing.data import SEED, AuditData
from deeptune.auditing.findings import Finding
from deeptune.auditing.labels import Question
from deeptune.auditing.properties import Property, properties
from deeptune.spec.tasks import TASKS
from deeptune.tasks.base import QUANTILE

FOLDS = 5  # of the small models of the audit
MIN_ROWS = 40
MIN_CLASS_ROWS = 10
MAX_ROWS = 20_000
MAX_QUESTIONS = 20
MIN_MADE = 0.2  # least share of the way from chance to a perfect score, for properties of how a file was made
MIN_CONTENT = 0.5  # the same for properties that content has a part in
MIN_CONTENT_OF_LABEL = 0.85  # the same for one label of several, as one class may well look darker than all others
MIN_ONE_CLASS = 0.6  # the same for one class against all others, by how a file was made
LEAVES = 16
RESAMPLES = 200


def shortcuts(data: AuditData) -> Iterator[Finding]:
    """Find properties of the files that predict the label."""
    if data.labels is None:
        return
    measured = list(properties(data))
    groups = data.values(data.group) if data.group is not None else None
    total, done = len(measured) * len(data.labels.questions[:MAX_QUESTIONS]), 0
    reported: set[tuple[str, str]] = set()
    for question in data.labels.questions[:MAX_QUESTIONS]:
        rows = _rows(data, question)
        for one in measured:
            done += 1
            data.progress("shortcuts", done, total)
            family = (question.name, "resolution" if one.name in ("width", "height") else one.name)
            if len(rows) < MIN_ROWS or family in reported:
                continue
            found = _finding(data, question, one, rows, None if groups is None else groups[rows])
            if found is not None:
                reported.add(family)
                yield found


def _rows(data: AuditData, question: Question) -> np.ndarray:
    """Draw rows with a sample and a label, of classes with enough of them."""
    known = data.usable & question.known
    if question.classes:
        counts = np.bincount(question.values[known], minlength=len(question.classes))
        known &= (counts >= MIN_CLASS_ROWS)[np.maximum(question.values, 0)]
        if len(np.unique(question.values[known])) < 2:
            return np.zeros(0, np.int64)
    rows = np.flatnonzero(known)
    return np.sort(data.rng().permutation(rows)[:MAX_ROWS])


def _finding(
    data: AuditData, question: Question, one: Property, rows: np.ndarray, groups: np.ndarray | None
) -> Finding | None:
    inputs, values = one.columns(rows), question.values[rows]
    limit = MIN_MADE if one.made else MIN_CONTENT_OF_LABEL if TASKS[data.task].view == "labels" else MIN_CONTENT
    subject = f"{one.name} alone predicts {question.name!r}"
    fix = f"make {one.name} the same for all rows, or draw classes from the same source; then compare the scores again"
    if not question.classes:
        score, low, high = _regression(inputs, values, groups)
        if low < limit:
            return None
        text = f"{subject} with R² {score:.2f} (95% interval {low:.2f} to {high:.2f}; chance 0)"
        return data.finding("shortcut", "warning", np.zeros(0, np.int64), text, fix)
    classes = len(np.unique(values))
    chance = 1 / classes
    score, low, high = _classification(inputs, values, groups)
    if (low - chance) / (1 - chance) >= limit:
        text = f"{subject} with a balanced accuracy of {score:.2f} (95% interval {low:.2f} to {high:.2f}; chance "
        text += f"{chance:.2f})"
        return data.finding("shortcut", "warning", np.zeros(0, np.int64), text, fix)
    if not one.made or classes == 2:
        return None
    for code in np.unique(values)[:MAX_QUESTIONS].tolist():
        score, low, high = _classification(inputs, (values == code).astype(np.int64), groups)
        if 2 * low - 1 >= MIN_ONE_CLASS:
            text = f"{one.name} alone tells class {question.classes[code]!r} of {question.name!r} from the others with "
            text += f"a balanced accuracy of {score:.2f} (95% interval {low:.2f} to {high:.2f}; chance 0.50)"
            return data.finding("shortcut", "warning", rows[values == code], text, fix)
    return None


def _classification(inputs: np.ndarray, values: np.ndarray, groups: np.ndarray | None) -> tuple[float, float, float]:
    """Give the balanced accuracy of a tree out of fold, with its 95% interval."""
    from sklearn.tree import DecisionTreeClassifier

    least = max(3, len(values) // 200)
    leaves = max(LEAVES, 2 * len(np.unique(values)))
    tree = DecisionTreeClassifier(
        max_leaf_nodes=leaves, min_samples_leaf=least, class_weight="balanced", random_state=SEED
    )
    predicted = _out_of_fold(tree, inputs, values, groups)
    codes, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place)
    recalls = np.bincount(place, predicted == values) / counts
    score = float(recalls.mean())
    half = QUANTILE * float(np.sqrt((recalls * (1 - recalls) / counts).sum())) / len(codes)
    return score, score - half, min(1.0, score + half)


def _regression(inputs: np.ndarray, values: np.ndarray, groups: np.ndarray | None) -> tuple[float, float, float]:
    """Give R² of a tree out of fold, with the 95% interval of a bootstrap."""
    from sklearn.tree import DecisionTreeRegressor

    least = max(5, len(values) // 50)
    tree = DecisionTreeRegressor(max_leaf_nodes=LEAVES, min_samples_leaf=least, random_state=SEED)
    predicted = _out_of_fold(tree, inputs, values, groups)
    rng = np.random.default_rng(SEED)
    drawn = [_r2(values[some], predicted[some]) for some in rng.integers(0, len(values), (RESAMPLES, len(values)))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return _r2(values, predicted), float(low), float(high)


def _r2(values: np.ndarray, predicted: np.ndarray) -> float:
    spread = ((values - values.mean()) ** 2).sum()
    return float(1 - ((values - predicted) ** 2).sum() / spread) if spread > 0 else 0.0


def _out_of_fold(model: Any, inputs: np.ndarray, values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    from sklearn.model_selection import cross_val_predict

    return cross_val_predict(model, inputs, values, cv=folds(values, groups), groups=groups)


def folds(values: np.ndarray, groups: np.ndarray | None) -> Any:
    """Choose folds: stratified by class for integers, with each group in one fold where there are groups enough."""
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    grouped = groups is not None and len(np.unique(groups)) >= FOLDS
    if values.dtype.kind != "f":
        kind = StratifiedGroupKFold if grouped else StratifiedKFold
        return kind(FOLDS, shuffle=True, random_state=SEED)
    return GroupKFold(FOLDS) if grouped else KFold(FOLDS, shuffle=True, random_state=SEED)
