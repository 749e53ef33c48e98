"""Classes with few rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding
from deeptune.auditing.label_names import variant_classes
from deeptune.data.splits.class_names import column_text
from deeptune.errors import listed
from deeptune.spec.tasks import TASKS

# Ratios of the largest class to the smallest, by rule of thumb. From 10 on, a model that never predicts the smallest is
# still right on nine of ten rows of the two.
INFO_RATIO = 4.0
WARNING_RATIO = 10.0
MIN_ROWS = 10  # rows below which a class or a label is rare


def imbalance(data: AuditData) -> Iterator[Finding]:
    """Find classes that are far smaller than the largest, and labels of which few rows have them."""
    if data.labels is None or data.label is None:
        return
    if data.labels.of_flags:
        yield from _rare_labels(data)
    elif len(data.labels.classes) >= 2 and len(data.labels.questions) == 1:
        yield from _small_classes(data)


def _small_classes(data: AuditData) -> Iterator[Finding]:
    labels = data.labels
    assert labels is not None
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.classes))
    mistyped = variant_classes(labels)  # a finding of their own
    own = np.array([code for code, name in enumerate(labels.classes) if name not in mistyped], np.int64)
    ratio = counts[own].max() / counts[own].min()
    if ratio < INFO_RATIO:
        return
    order = own[np.argsort(counts[own], kind="stable")]
    small = order[counts[order] * INFO_RATIO <= counts.max()]
    shown = listed((f"{labels.classes[code]} {counts[code]:,}" for code in small), most=5)
    largest = labels.classes[int(counts.argmax())]
    text = f"the largest class of column {column_text(data.label or '')!r} ({largest}, {counts.max():,} rows) is "
    text += f"{ratio:.1f} times the smallest; few rows: {shown}"
    weighable = TASKS[data.task].class_weights
    weights = 'train.class_weights = "balanced" gives rare classes more weight; ' if weighable else ""
    fix = f"{weights}judge by balanced accuracy or macro F1, not by accuracy"
    rows = np.flatnonzero(np.isin(labels.codes, small))
    yield data.finding("imbalance", "warning" if ratio >= WARNING_RATIO else "info", rows, text, fix)


def _rare_labels(data: AuditData) -> Iterator[Finding]:
    labels = data.labels
    assert labels is not None
    counts = {one.name: int((one.values == 1).sum()) for one in labels.questions}
    most = max(counts.values(), default=0)
    rare = {name: count for name, count in counts.items() if count < MIN_ROWS or count * WARNING_RATIO <= most}
    if not rare:
        return
    shown = listed((f"{name} {count:,}" for name, count in sorted(rare.items(), key=lambda one: one[1])), most=5)
    rows = np.flatnonzero(np.any([one.values == 1 for one in labels.questions if one.name in rare], axis=0))
    text = f"{len(rare):,} of {len(counts):,} labels have few rows (the most frequent has {most:,}): {shown}"
    yield data.finding("imbalance", "warning", rows, text, "judge by the scores of each label; bring more of such rows")
