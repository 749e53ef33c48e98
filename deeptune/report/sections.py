"""Further sections of a report. Each is a function of the finished run in a module of its own, and one row here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

from deeptune.report.reading import FinishedRun


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture as SVG of our own making, and what it shows, which is also its alternative text."""

    svg: str
    caption: str


@dataclass(frozen=True)
class ReportSection:
    """One section of report.html: its heading, then paragraphs, tables and figures.

    `name` and `data` are its key and its content in report.json, ready for JSON. A `folded` section shows its heading
    only, until it is opened.
    """

    name: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    data: dict[str, Any] = field(default_factory=dict)
    folded: bool = False


# As `module:function`, in the order in which the report shows them, after the pictures of the task. A function returns
# None where the run has nothing of the kind.
SECTIONS: tuple[str, ...] = (
    "deeptune.report.head_first:head_section",
    "deeptune.report.confidence:confidence_section",
)


def sections_of(run: FinishedRun) -> list[ReportSection]:
    """All sections of a run that have something to show."""
    makers: list[Callable[[FinishedRun], ReportSection | None]] = [resolve_name(name) for name in SECTIONS]
    return [section for make in makers if (section := make(run)) is not None]
