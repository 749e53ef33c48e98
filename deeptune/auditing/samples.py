"""Samples that can't be used, and labels that say nothing or don't fit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding
from deeptune.auditing.label_names import says_nothing
from deeptune.auditing.labels import Labels, check_labels
from deeptune.data.splits.class_names import column_text
from deeptune.errors import DataError, listed
from deeptune.formatting import counted
from deeptune.spec.modalities import MODALITIES, input_words


def undecodable(data: AuditData) -> Iterator[Finding]:
    """Find the samples that a run would stop at."""
    reasons = data.measures.reasons
    if not reasons:
        return
    rows = np.array(sorted(reasons), np.int64)
    named = [f"{data.where(int(at))} {reasons[int(at)]}" for at in rows[:4]]
    shown = listed([*named, *[""] * (len(rows) - len(named))], most=4)
    plural = MODALITIES[data.modality].plural
    text = f"{len(rows):,} of {len(data):,} {plural} in {input_words(data.input)} cannot be used: {shown}"
    fix = 'repair them, or data.on_bad_sample = "skip" leaves them out'
    yield data.finding("undecodable", "error", rows, text, fix)


def missing_labels(data: AuditData) -> Iterator[Finding]:
    """Find rows without a label, and labels that are a word for a missing one."""
    if data.labels is None or data.label is None:
        return
    name = column_text(data.label)
    rows = np.flatnonzero(data.labels.missing)
    if len(rows):
        text = f"{len(rows):,} of {len(data):,} labels in column {name!r} are missing: {data.wheres(rows)}"
        fix = 'fill them in, or data.on_bad_sample = "skip" leaves these rows out'
        yield data.finding("missing_label", "error", rows, text, fix)
    words = [code for code, one in enumerate(data.labels.classes) if says_nothing(one)]
    rows = np.flatnonzero(np.isin(data.labels.codes, words)) if data.labels.words else np.zeros(0, np.int64)
    if len(rows) and len(rows) < len(data):
        spelled = listed(repr(data.labels.classes[code]) for code in words)
        labels = counted(len(rows), "label")
        are = "is" if len(rows) == 1 else "are"
        text = f"{labels} in column {name!r} {are} {spelled}, which would be a class of its own"
        yield data.finding("missing_label", "warning", rows, text, "write null where the label is not known")


def unfit_labels(data: AuditData) -> Iterator[Finding]:
    """Find a label column that the task does not take, or that has the same label in every row."""
    if data.label is None:
        return
    rows = np.zeros(0, np.int64)
    try:
        check_labels(data.sources, data.label, data.task)
    except DataError as error:
        yield data.finding("unfit_label", "error", rows, error.message, error.hint or "name another label column")
        return
    alike = data.labels is not None and _alike(data.labels)
    if alike:
        text = f"every label in column {column_text(data.label)!r} is {alike}: there is nothing to learn"
        yield data.finding("unfit_label", "error", rows, text, "add rows with other labels, or name another column")


def _alike(labels: Labels) -> str | None:
    """Return the one label that all rows with a label have, as text; None where labels differ or no row has one."""
    known = np.flatnonzero(~labels.missing)
    if not len(known) or labels.of_flags:
        return None
    if labels.classes:
        return repr(labels.classes[0]) if len(labels.classes) == 1 else None
    same = [len(np.unique(one.values[one.known])) == 1 for one in labels.questions]
    return labels.text(int(known[0])) if same and all(same) else None
