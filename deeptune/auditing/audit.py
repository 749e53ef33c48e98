"""Audit data before anything learns from it: one pass over the samples, then checks that each look for one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from deeptune.auditing.balance import imbalance
from deeptune.auditing.columns import column_facts, crossing_groups, id_like_columns
from deeptune.auditing.data import AuditData, Tokens
from deeptune.auditing.drift import drift
from deeptune.auditing.duplicates import exact_duplicates
from deeptune.auditing.findings import AuditReport, Finding, in_order
from deeptune.auditing.label_errors import suspected_label_errors
from deeptune.auditing.label_names import label_variants
from deeptune.auditing.labels import Labels, check_labels, read_labels
from deeptune.auditing.measures import measure
from deeptune.auditing.near_images import near_images
from deeptune.auditing.near_texts import near_texts
from deeptune.auditing.odd_images import odd_images
from deeptune.auditing.odd_texts import mixed_scripts, truncated_texts, wrong_encodings
from deeptune.auditing.request import AuditRequest, OpenedRequest, open_request, splits_of
from deeptune.auditing.samples import missing_labels, undecodable, unfit_labels
from deeptune.auditing.shortcuts import shortcuts
from deeptune.data.sources.source import Source
from deeptune.errors import DataError
from deeptune.progress import StepProgress
from deeptune.spec.modalities import Input, columns_of

# A check looks at the data for one thing, and yields what it finds.
Check = Callable[[AuditData], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    undecodable, missing_labels, unfit_labels, exact_duplicates, near_images, near_texts, crossing_groups,
    id_like_columns, label_variants, imbalance, odd_images, truncated_texts, wrong_encodings, mixed_scripts, shortcuts,
    drift, suspected_label_errors,
)  # fmt: skip

# Gives the features of all rows of a source (float32 (N, width), NaN in rows without), or None where it has none.
Features = Callable[[Source, str, Any], np.ndarray | None]


def audit_data(
    request: AuditRequest,
    *,
    features: Features | None = None,
    tokens: Callable[[str], Tokens | None] | None = None,
    progress: StepProgress | None = None,
) -> tuple[AuditReport, AuditData]:
    """Audit files. Returns the report, and the data that its rows are in.

    `features(source, modality, input)` and `tokens(modality)` come from a backbone. Raises DataError where the files or
    columns can't be opened; what is wrong with rows is a finding.
    """
    data = gather(open_request(request), features=features, tokens=tokens, progress=progress)
    findings = []
    for number, check in enumerate(CHECKS):
        data.progress("checks", number, len(CHECKS))
        findings += list(check(data))
    data.progress("checks", len(CHECKS), len(CHECKS))
    notes = [note for source in data.sources for note in source.notes]
    return AuditReport(in_order(findings), _overview(data), (*notes, *data.notes)), data


def gather(
    opened: OpenedRequest,
    *,
    features: Features | None = None,
    tokens: Callable[[str], Tokens | None] | None = None,
    progress: StepProgress | None = None,
) -> AuditData:
    """Read all that the checks need: columns, labels, and each sample once."""
    step: StepProgress = progress or (lambda _what, _done, _total: None)
    request, sources = opened.request, list(opened.sources.values())
    roles = dict.fromkeys(columns_of(opened.input), "input") | dict.fromkeys(columns_of(opened.label or []), "label")
    roles |= {name: role for name, role in ((request.group, "group"), (opened.split_column, "split")) if name}
    columns = column_facts(sources, roles)
    labels = None if opened.label is None else _fit_labels(sources, opened.label, opened.task)
    measures = measure(
        sources,
        opened.input,
        opened.modality,
        value_range=request.value_range,
        progress=lambda done, total: step("samples", done, total),
    )
    split, names = splits_of(opened)
    return AuditData(
        sources,
        opened.modality,
        opened.input,
        opened.task,
        opened.label,
        request.group,
        columns,
        labels,
        measures,
        split,
        names,
        split_column=opened.split_column,
        features=_features(opened, features),
        tokens=None if tokens is None else tokens(opened.modality),
        progress=step,
    )


def _fit_labels(sources: list[Source], label: Input, task: str) -> Labels | None:
    """Read the labels; None where the task does not take their type, which `unfit_labels` reports."""
    try:
        check_labels(sources, label, task)
    except DataError:
        return None
    return read_labels(sources, label, task)


def _features(opened: OpenedRequest, features: Features | None) -> np.ndarray | None:
    if features is None:
        return None
    parts = []
    for source in opened.sources.values():
        one = features(source, opened.modality, opened.input)
        if one is None:
            return None
        parts.append(one)
    return np.concatenate(parts)


def _overview(data: AuditData) -> dict[str, Any]:
    rows = {source.key.removeprefix("data."): source.num_rows for source in data.sources}
    if data.split_column is not None:
        rows = {name: int((data.split == at).sum()) for at, name in enumerate(data.split_names)}
    overview: dict[str, Any] = {
        "files": [str(file) for source in data.sources for file in source.files],
        "rows": rows,
        "modality": data.modality,
        "task": data.task,
        "input": data.input,
        "label": data.label,
        "group": data.group,
        "split_column": data.split_column,
        "columns": [vars(column) for column in data.columns],
        "labels": None if data.labels is None else _labels(data.labels),
        "bytes": int(data.measures.sizes.sum()),
    }
    if data.measures.images:
        overview["images"] = _images(data)
    if data.measures.texts:
        overview["texts"] = _texts(data)
    return overview


def _labels(labels: Labels) -> dict[str, Any]:
    found: dict[str, Any] = {"missing": int(labels.missing.sum())}
    if labels.classes:
        counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.classes)).tolist()
        return found | {"classes": dict(zip(labels.classes, counts, strict=True))}
    if labels.of_flags:
        return found | {"classes": {one.name: int((one.values == 1).sum()) for one in labels.questions}}
    numbers = {}
    for one in labels.questions:
        known = one.values[one.known]
        if len(known):
            low, middle, high = np.quantile(known, [0, 0.5, 1]).tolist()
            numbers[one.name] = {"min": low, "median": middle, "max": high}
    return found | {"numbers": numbers}


def _images(data: AuditData) -> dict[str, Any]:
    headers = [image.header for image in data.measures.images if image is not None]
    if not headers:
        return {}
    widths, heights = [one.size[0] for one in headers], [one.size[1] for one in headers]
    return {
        "width": _spread(widths),
        "height": _spread(heights),
        "formats": _counted([one.format for one in headers]),
        "modes": _counted([one.mode for one in headers]),
        "with_opacity": sum(one.opacity for one in headers),
        "turned_by_exif": sum(one.orientation != 1 for one in headers),
        "more_than_8_bits": sum(one.deep for one in headers),
    }


def _texts(data: AuditData) -> dict[str, Any]:
    lengths = [len(text) for text in data.measures.texts if text is not None]
    return {"characters": _spread(lengths)} if lengths else {}


def _spread(values: list[int]) -> dict[str, int]:
    return {"min": min(values), "median": int(np.median(values)), "max": max(values)}


def _counted(values: list[str]) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))
