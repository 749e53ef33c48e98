"""The content of the files: their shape, the use of each column, the balance of the labels, and some rows."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from deeptune.formatting import safe, size_text
from deeptune.show.chart import ChartGlyphs, spark
from deeptune.spec.modalities import Input, columns_of
from deeptune.spec.tasks import TASKS
from tui.widgets.changing_text import Line
from tui.widgets.wizard.facts import Data
from tui.widgets.wizard.summary import bar, cut, in_column

MAX_COLUMNS = 12
MAX_CLASSES = 12
LONGEST_NAME = 22
MAX_FINDINGS = 5  # findings of the audit that are listed
AUDIT_STYLES = {"error": "bold $error", "warning": "bold $warning", "info": "bold $primary"}


class DataView(Vertical):
    """Shows the content of the files beside or below the fields of the data."""

    DEFAULT_CSS = """
    DataView { height: auto; }
    DataView Line { height: auto; margin-bottom: 1; }
    """

    def compose(self) -> ComposeResult:
        yield Line(id="data-files")
        yield Line(id="data-columns")
        yield Line(id="data-balance")
        yield Line(id="data-warnings")
        yield Line(id="data-audit")

    def show(self, data: Data, label: Input) -> None:
        glyphs = ChartGlyphs(ascii=not self.app.options.dots)  # type: ignore[attr-defined]
        width = max(30, self.size.width or self.app.size.width - 4)
        self._say("#data-files", files_content(data))
        self._say("#data-columns", columns_content(data, label))
        self._say("#data-balance", balance_content(data.survey, width, glyphs) if data.survey else Content())
        self._say("#data-warnings", warnings_content(data.survey) if data.survey else Content())
        self._say("#data-audit", audit_content(data))

    def _say(self, where: str, content: Content) -> None:
        line = self.query_one(where, Line)
        line.display = bool(content)
        line.say(content)


def files_content(data: Data) -> Content:
    """Describe the files that the wizard has read, or say what it is doing."""
    if data.overview is None:
        text = (
            data.reading
            or "Type or paste the path of a Parquet file, a folder, a CSV or an archive; ctrl+f looks for one."
        )
        return Content.styled(text, "dim")
    found = data.overview
    files = f"{len(found['files']):,} files, " if len(found["files"]) > 1 else ""
    groups = f"{found['row_groups']:,} row group{'s' if found['row_groups'] != 1 else ''}"
    parts = [(f"{found['rows']:,} rows", "bold"), (f"  {files}{size_text(found['bytes'])}, {groups}", "dim")]
    parts += [(f"\n{safe(note)}", "dim") for note in found["notes"]]
    if data.survey is not None:
        rows = data.survey["rows"]
        split = " · ".join(f"{name} {rows[name]:,}" for name in ("train", "val", "test"))
        parts.append((f"\n{split}", ""))
        if lengths := data.survey["lengths"]:
            parts.append((f"\ntexts of {lengths[0]:,} characters (median), {lengths[2]:,} at most", "dim"))
    if data.reading:
        parts.append((f"\n{data.reading}", "dim"))
    return Content.assemble(*parts)


def columns_content(data: Data, label: Input) -> Content:
    """List the columns with their types, and the classes of the label."""
    if data.overview is None:
        return Content()
    used = dict.fromkeys(columns_of(label), "label")
    if data.survey is not None:
        used |= dict.fromkeys(columns_of(data.survey["input"]), "input")
    parts: list[tuple[str, str]] = []
    columns: list[dict[str, Any]] = data.overview["columns"]
    names = in_column([column["name"] for column in columns[:MAX_COLUMNS]], LONGEST_NAME)
    for name, column in zip(names, columns[:MAX_COLUMNS], strict=True):
        role = used.get(column["name"], "")
        parts += [
            (f"{name}  ", "bold" if role else ""),
            (f"{cut(column['words'], 24):<24}", "dim"),
            (f"  {role}", "$primary"),
            ("\n", ""),
        ]
    if len(columns) > MAX_COLUMNS:
        parts.append((f"and {len(columns) - MAX_COLUMNS:,} more columns\n", "dim"))
    return Content.assemble(*parts[:-1], parts[-1] if parts and parts[-1][0] != "\n" else ("", ""))


def balance_content(survey: dict[str, Any], width: int, glyphs: ChartGlyphs) -> Content:
    """Draw a bar for each class; of numbers their histogram."""
    if not survey["classes"]:
        return histograms_content(survey["histograms"], glyphs)
    counts = [(name, sum(rows)) for name, *rows in survey["classes"]]
    total, largest = sum(survey["rows"].values()), max(count for _, count in counts)
    kinds = TASKS[survey["task"]].view
    smallest = min(count for _, count in counts)
    shown = counts if len(counts) <= MAX_CLASSES else sorted(counts, key=lambda c: -c[1])[: MAX_CLASSES - 1]
    names = in_column([name for name, _ in shown], LONGEST_NAME)
    room = max(8, min(40, width - cell_len(names[0]) - 20))
    parts: list[tuple[str, str]] = []
    for name, (_, count) in zip(names, shown, strict=True):
        parts += [
            (f"{name} ", ""),
            (bar(count / largest, room), "$primary"),
            (f" {count:>8,} {count / total:>6.1%}\n", "dim"),
        ]
    if len(shown) < len(counts):
        parts.append((f"and {len(counts) - len(shown):,} more {kinds}\n", "dim"))
    unequal = smallest and largest / smallest >= 1.05  # else it would read "1.0 times"
    ratio = f"; the largest is {largest / smallest:.1f} times the smallest" if unequal else ""
    parts.append((f"{len(counts):,} {kinds}{ratio}", "$warning" if smallest and largest / smallest >= 10 else "dim"))
    return Content.assemble(*parts)


def histograms_content(histograms: dict[str, list[Any]], glyphs: ChartGlyphs) -> Content:
    """Draw how the numbers of each target are spread, between the smallest and the largest."""
    shown = list(histograms.items())[:MAX_CLASSES]
    parts: list[tuple[str, str]] = []
    for name, (_, histogram) in zip(in_column([name for name, _ in shown], LONGEST_NAME), shown, strict=True):
        heights = [rows for _, _, rows in histogram]
        shape = spark(heights, len(heights), min(heights), max(heights), glyphs)
        parts += [
            (f"{name} " if name else "", ""),
            (f"{histogram[0][0]:g} ", "dim"), (shape, "$primary"), (f" {histogram[-1][1]:g}\n", "dim"),
        ]  # fmt: skip
    if len(histograms) > MAX_CLASSES:
        parts.append((f"and {len(histograms) - MAX_CLASSES:,} more numbers\n", "dim"))
    return Content.assemble(*parts[:-1], (parts[-1][0].rstrip("\n"), parts[-1][1]))


def warnings_content(survey: dict[str, Any]) -> Content:
    """List the warnings about the data."""
    parts = [part for text in survey["warnings"] for part in (("! ", "bold $warning"), (f"{safe(text)}\n", "$warning"))]
    return Content.assemble(*parts)


def audit_content(data: Data) -> Content:
    """Count the findings of the audit and list the worst; before it, say which key begins it."""
    if data.survey is None:
        return Content()
    if data.audit is None:
        return Content.styled(
            safe(data.auditing) or "f4 audits the samples: duplicates, leaks, labels, shortcuts", "dim"
        )
    findings = data.audit["findings"]
    if not findings:
        return Content.styled("the audit found nothing", "$success")
    counts = [(count, name) for name, count in data.audit["counts"].items() if count]
    said = ", ".join(f"{count} {name}{'s' if count > 1 and name != 'info' else ''}" for count, name in counts)
    parts: list[tuple[str, str]] = [(f"audit: {said}  ", "bold"), ("`deeptune audit` shows the rows", "dim")]
    for one in findings[:MAX_FINDINGS]:
        parts += [(f"\n{one['severity']} ", AUDIT_STYLES[one["severity"]]), (cut(one["message"], 240), "")]
    if len(findings) > MAX_FINDINGS:
        parts.append((f"\nand {len(findings) - MAX_FINDINGS} more", "dim"))
    return Content.assemble(*parts)
