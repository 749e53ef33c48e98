"""An audit in a terminal: an overview, then each finding with its first rows as pictures or texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deeptune.auditing.examples import Example, Examples
from deeptune.auditing.findings import KINDS, AuditReport, Finding
from deeptune.errors import DataError, listed
from deeptune.formatting import safe, size_text, visible
from deeptune.show.picture import PictureGlyphs, Piece, draw

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}
EXAMPLES = 4  # rows of a finding that are shown
PICTURE_WIDTH, PICTURE_ROWS = 16, 8  # cells of a picture
PIXELS = 160
MAX_COLUMNS = 12
MAX_TEXT = 200  # characters of a text


def print_report(out: Console, report: AuditReport, examples: Examples | None, *, ascii_only: bool = False) -> None:
    """Print a report. With `examples` the first rows of findings are drawn."""
    from rich.text import Text

    print_overview(out, report.overview)
    for finding in report.findings:
        out.print()
        head = Text.assemble(
            (finding.severity, STYLES[finding.severity]), f" {finding.kind}", (f"  {KINDS[finding.kind]}", "dim")
        )
        out.print(head, soft_wrap=True)
        # A file or a pipe has no edge to wrap at.
        out.print(Text(safe(finding.message)), soft_wrap=not out.is_terminal)
        out.print(Text.assemble(("fix: ", "dim"), safe(finding.fix)), soft_wrap=not out.is_terminal)
        if examples is not None and finding.rows:
            _print_examples(out, finding, examples, PictureGlyphs(ascii=ascii_only))
    out.print()
    for note in report.notes:
        out.print(Text(f"note: {safe(note)}", style="dim"))
    out.print(Text(summary(report)))


def summary(report: AuditReport) -> str:
    """Count the findings: `2 errors, 1 warning`."""
    counts = [(count, severity) for severity, count in report.counts().items() if count]
    texts = [f"{count} {name}{'s' if count > 1 and name != 'info' else ''}" for count, name in counts]
    return ", ".join(texts) if texts else "nothing found"


def print_overview(out: Console, overview: dict[str, Any]) -> None:
    """Print the columns with their roles, and the counts of rows and classes."""
    from rich.table import Table
    from rich.text import Text

    rows = ", ".join(
        f"{count:,}" if name == "path" else f"{name} {count:,}" for name, count in overview["rows"].items()
    )
    out.print(Text(f"{rows} rows, {overview['task']} of {overview['modality']}, {size_text(overview['bytes'])}"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("column", "holds", "role", "nulls", "distinct"):
        table.add_column(name, justify="right" if name in ("nulls", "distinct") else "left", overflow="fold")
    for column in overview["columns"][:MAX_COLUMNS]:
        counts = ("" if column[name] is None else f"{column[name]:,}" for name in ("nulls", "distinct"))
        table.add_row(safe(column["name"]), safe(column["words"]), column["role"] or "", *counts)
    out.print(table)
    if (more := len(overview["columns"]) - MAX_COLUMNS) > 0:
        out.print(Text(f"and {more:,} more columns", style="dim"))
    for line in _samples(overview):
        out.print(Text(safe(line), style="dim"))


def _samples(overview: dict[str, Any]) -> list[str]:
    lines = []
    if classes := (overview["labels"] or {}).get("classes"):
        lines.append("classes: " + listed((f"{name} {count:,}" for name, count in classes.items()), most=12))
    for name, numbers in ((overview["labels"] or {}).get("numbers") or {}).items():
        lines.append(f"{name}: {numbers['min']:g} to {numbers['max']:g}, median {numbers['median']:g}")
    if images := overview.get("images"):
        sides = " × ".join(_range(images[side]) for side in ("width", "height"))
        kinds = ", ".join(f"{name} {count:,}" for key in ("formats", "modes") for name, count in images[key].items())
        lines.append(f"images of {sides} pixels; {kinds}")
    if texts := overview.get("texts", {}).get("characters"):
        lines.append(f"texts of {texts['median']:,} characters (median), {texts['max']:,} at most")
    return lines


def _print_examples(out: Console, finding: Finding, examples: Examples, glyphs: PictureGlyphs) -> None:
    from rich.columns import Columns

    found = examples.of(finding, EXAMPLES, pixels=PIXELS)
    if any(one.image is not None for one in found):
        out.print(Columns([_picture(one, glyphs) for one in found], padding=(0, 2)))
    else:
        for one in found:
            out.print(_text(one))


def _caption(example: Example) -> str:
    return safe(f"{example.where}  {example.label}".rstrip())


def _text(example: Example) -> Text:
    from rich.text import Text

    shown = visible((example.text if example.text is not None else example.reason) or "").replace("\n", " ")
    cut = shown if len(shown) <= MAX_TEXT else shown[: MAX_TEXT - 1] + "…"
    return Text.assemble((f"  {_caption(example)}  ", "bold"), cut)


def _picture(example: Example, glyphs: PictureGlyphs) -> Text:
    from rich.text import Text

    text = Text()
    try:
        if example.image is None:
            raise DataError(example.reason or "")
        for row in draw(example.image, PICTURE_WIDTH, PICTURE_ROWS, glyphs):
            text.append_text(_line(row))
            text.append("\n")
    except DataError as error:
        text.append(safe(error.message)[: 4 * PICTURE_WIDTH] + "\n", "yellow")
    return text.append(_caption(example)[: 2 * PICTURE_WIDTH], "dim")


def _line(pieces: list[Piece]) -> Text:
    from rich.style import Style
    from rich.text import Text

    line = Text()
    for text, ink, ground in pieces:
        colours = [colour and "#{:02x}{:02x}{:02x}".format(*colour) for colour in (ink, ground)]
        line.append(text, Style(color=colours[0], bgcolor=colours[1]))
    return line


def _range(numbers: dict[str, Any]) -> str:
    low, high = numbers["min"], numbers["max"]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
