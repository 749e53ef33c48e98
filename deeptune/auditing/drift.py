"""Splits that differ: in their samples, which a classifier then tells apart, and in their labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deeptune.auditing.content import classifier, content_of
from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding, Severity
from deeptune.auditing.labels import Question
from deeptune.auditing.properties import properties
from deeptune.auditing.shortcuts import FOLDS, folds
from deeptune.tasks.base import QUANTILE

MIN_ROWS = 40  # rows that each of two splits needs
MAX_ROWS = 10_000
INFO_AREA, WARNING_AREA = 0.6, 0.7  # the lower end of the interval of the ROC area
MAX_P = 1e-3  # of a test: about 0.05 for one of 40, as up to 20 questions of two pairs of splits are tested
MIN_SHIFT = 0.1  # total variation of class shares, or Kolmogorov and Smirnov's statistic of numbers


def drift(data: AuditData) -> Iterator[Finding]:
    """Find splits whose samples or labels differ from those of the first one."""
    for other in range(1, len(data.split_names)):
        yield from _samples(data, other)
        if data.labels is not None:
            for question in data.labels.questions[:20]:
                yield from _labels(data, question, other)


def _drawn(data: AuditData, mask: np.ndarray) -> np.ndarray:
    return np.sort(data.rng().permutation(np.flatnonzero(mask))[:MAX_ROWS])


def _samples(data: AuditData, other: int) -> Iterator[Finding]:
    """Tell the samples of two splits apart by a classifier, out of fold."""
    parts = [_drawn(data, data.usable & (data.split == split)) for split in (0, other)]
    rows = np.concatenate(parts)
    if min(map(len, parts)) < MIN_ROWS:
        return
    data.progress("drift", other, len(data.split_names))
    content = content_of(data, rows)
    measured = [one for one in properties(data) if one.made or data.measures.texts]
    columns = [one.columns(rows) for one in measured]
    inputs = np.concatenate([*([] if content is None else [content]), *columns], axis=1) if columns else content
    if inputs is None:
        return
    groups = None if data.group is None else data.values(data.group)
    groups = None if groups is None else groups[rows]
    target = np.repeat([0, 1], [len(parts[0]), len(parts[1])])
    if groups is not None and min(len(np.unique(groups[target == side])) for side in (0, 1)) < FOLDS:
        groups = None  # such as one hospital as test: without its group, the training rows of a fold are one split
    area, low, high = _area(inputs, target, groups)
    if low < INFO_AREA:
        return
    first, second = data.split_names[0], data.split_names[other]
    text = f"the samples of {second} differ from those of {first}: a classifier tells them apart with a ROC area of "
    text += f"{area:.2f} (95% interval {low:.2f} to {high:.2f}; 0.50 for splits that are alike)"
    telling = [(one.name, _apart(one.columns(rows), target)) for one in measured]
    name, most = max(telling, key=lambda pair: pair[1], default=("", 0.0))
    if most >= WARNING_AREA:
        text += f"; most by {name}"
    fix = "draw the splits from all rows (data.path = [all files]), unless the difference is what is to be measured"
    severity: Severity = "warning" if low >= WARNING_AREA else "info"
    yield data.finding("drift", severity, np.zeros(0, np.int64), text, fix)


def _area(inputs: np.ndarray, target: np.ndarray, groups: np.ndarray | None) -> tuple[float, float, float]:
    """Give the ROC area out of fold, with the 95% interval of J. Hanley and B. McNeil (Radiology, 1982)."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    model = classifier()
    chances = cross_val_predict(model, inputs, target, cv=folds(target, groups), groups=groups, method="predict_proba")[
        :, 1
    ]
    area = float(roc_auc_score(target, chances))
    positive, negative = int(target.sum()), int((1 - target).sum())
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positive - 1) * (one - area**2) + (negative - 1) * (two - area**2)
    half = QUANTILE * float(np.sqrt(max(0.0, spread) / (positive * negative)))
    return area, area - half, min(1.0, area + half)


def _apart(columns: np.ndarray, target: np.ndarray) -> float:
    """Give the largest ROC area of single columns, whichever way they point."""
    from sklearn.metrics import roc_auc_score

    areas = [float(roc_auc_score(target, column)) for column in columns.T if column.min() < column.max()]
    return max((max(area, 1 - area) for area in areas), default=0.5)


def _labels(data: AuditData, question: Question, other: int) -> Iterator[Finding]:
    """Compare the labels of two splits: shares of classes by the χ² test, numbers by that of Kolmogorov and Smirnov."""
    from scipy import stats

    first, second = (question.values[question.known & (data.split == split)] for split in (0, other))
    if min(len(first), len(second)) < MIN_ROWS:
        return
    names = data.split_names[0], data.split_names[other]
    none = np.zeros(0, np.int64)
    fix = "draw the splits from all rows (data.path = [all files]), or judge the score knowing that the labels differ"
    if question.classes:
        table = np.stack([np.bincount(one, minlength=len(question.classes)) for one in (first, second)])
        table = table[:, table.sum(axis=0) > 0]
        present = np.flatnonzero(np.bincount(np.concatenate([first, second]), minlength=len(question.classes)))
        if table.shape[1] < 2:
            return
        shares = table / table.sum(axis=1, keepdims=True)
        shift = float(np.abs(shares[0] - shares[1]).sum() / 2)
        if shift < MIN_SHIFT or stats.chi2_contingency(table).pvalue > MAX_P:
            return
        most = int(np.abs(shares[0] - shares[1]).argmax())
        text = (
            f"the labels of {names[1]} differ from those of {names[0]}: {shift:.0%} of the rows of {question.name!r} "
        )
        text += f"would have to change; class {question.classes[present[most]]!r} has {shares[0, most]:.0%} of "
        text += f"{names[0]} and {shares[1, most]:.0%} of {names[1]}"
        yield data.finding("drift", "warning", none, text, fix)
        return
    test = stats.ks_2samp(first, second)
    if test.statistic >= MIN_SHIFT and test.pvalue <= MAX_P:
        text = f"the numbers of {question.name!r} in {names[1]} differ from those in {names[0]}: median "
        text += f"{np.median(second):.4g} and {np.median(first):.4g} (Kolmogorov and Smirnov's statistic "
        text += f"{test.statistic:.2f})"
        yield data.finding("drift", "warning", none, text, fix)
