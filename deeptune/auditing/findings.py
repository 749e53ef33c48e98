"""The findings of an audit, each with its rows and what mends them, and an overview of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deeptune.formatting import counted

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")  # the worst first

KINDS: Mapping[str, str] = {
    "undecodable": "samples that a run can't use",
    "missing_label": "labels that say nothing",
    "unfit_label": "a label column that does not fit the task",
    "cross_split_duplicate": "the same sample in two splits",
    "group_crosses_splits": "a group in two splits",
    "exact_duplicate": "identical samples",
    "near_duplicate": "nearly identical samples",
    "id_like_column": "a column that looks like a unit whose rows belong together",
    "label_variant": "labels that may be meant as one, or are not classes",
    "suspected_label_error": "labels that the sample contradicts",
    "shortcut": "properties of the files that predict the label",
    "drift": "splits that differ",
    "imbalance": "classes with few rows",
    "odd_image": "images that differ from the others, or show nothing",
    "truncated_text": "texts longer than the backbone takes",
    "encoding": "texts whose characters were decoded wrongly",
    "mixed_script": "texts in another script than the others",
}


@dataclass(frozen=True)
class Finding:
    """One problem of the data.

    `kind` is a key of KINDS. `rows` are indices in their source; where there are splits, `splits` names that of each
    row. Rows of one set of duplicates are beside each other. `fix` is the spec line, the command or the step that mends
    the problem.
    """

    kind: str
    severity: Severity
    message: str
    fix: str
    rows: tuple[int, ...] = ()
    splits: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the finding as JSON values."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "rows": list(self.rows),
            "splits": None if self.splits is None else list(self.splits),
            "message": self.message,
            "fix": self.fix,
        }


@dataclass(frozen=True)
class ColumnFacts:
    """A column: its type, its values in words, its likely role, and how many values are null or distinct.

    A count is None where it would take reading large values.
    """

    name: str
    type: str
    words: str
    role: str | None
    nulls: int | None
    distinct: int | None


@dataclass(frozen=True)
class AuditReport:
    """The findings, the worst first, and an overview of the data as JSON values.

    `notes` say what was not checked, and why.
    """

    findings: tuple[Finding, ...]
    overview: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        """Write a line for each finding, instead of rows and overview."""
        lines = [f"{one.severity}: {one.kind}: {one.message}" for one in self.findings]
        return "\n".join(["AuditReport: " + counted(len(lines), "finding"), *lines])

    def counts(self) -> dict[str, int]:
        """Count the findings of each severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    def of_kind(self, kind: str) -> list[Finding]:
        """List the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "counts": self.counts(),
            "overview": self.overview,
            "notes": list(self.notes),
        }


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Sort findings: the worst first, then by the order of KINDS."""
    kinds = list(KINDS)
    return tuple(sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), kinds.index(one.kind))))
