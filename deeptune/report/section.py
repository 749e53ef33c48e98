"""A section of a report, and what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


class Link(str):
    """The text of a cell that leads to the part of the page with an anchor."""

    anchor: str

    def __new__(cls, text: str, anchor: str) -> Link:
        made = super().__new__(cls, text)
        made.anchor = anchor
        return made


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column names the row. `kind` says what the other columns are."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    kind: Literal["numbers", "words"] = "numbers"


@dataclass(frozen=True)
class Figure:
    """A picture as SVG or HTML of our own making, and what it shows, which is also its alternative text.

    `small` pictures stand closer together.
    """

    svg: str
    caption: str
    small: bool = False


@dataclass(frozen=True)
class ReportSection:
    """One section of report.html: its heading, then paragraphs, tables and figures.

    `name` and `data` are its key and its content in report.json, ready for JSON; `name` is also its anchor on the page.
    A `folded` section shows its heading only, until it is opened; the others can be folded.
    """

    name: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    data: dict[str, Any] = field(default_factory=dict)
    folded: bool = False
