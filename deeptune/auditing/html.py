"""An audit as one HTML file, with the first rows of each finding."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from deeptune.auditing.examples import Example, Examples
from deeptune.auditing.findings import KINDS, AuditReport
from deeptune.formatting import size_text
from deeptune.runs.files import write_text
from deeptune.templates import render_template

EXAMPLES = 24  # rows of a finding that are shown
PIXELS = 128
MAX_TEXT = 400
MAX_ROWS = 200  # row numbers that are listed
_TYPES = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))


def write_html(report: AuditReport, examples: Examples, path: Path) -> None:
    """Write the report. Raises CheckpointError where it can't be written."""
    write_text(path, render(report, examples))


def render(report: AuditReport, examples: Examples) -> str:
    """Render the report as one HTML document. Every text is escaped."""
    findings = [
        {
            "kind": finding.kind,
            "about": KINDS[finding.kind],
            "severity": finding.severity,
            "message": finding.message,
            "fix": finding.fix,
            "rows": [str(row) for row in finding.rows[:MAX_ROWS]],
            "more": max(0, len(finding.rows) - MAX_ROWS),
            "examples": [_shown(one) for one in examples.of(finding, EXAMPLES, pixels=PIXELS)],
        }
        for finding in report.findings
    ]
    content = {
        "findings": findings,
        "counts": report.counts(),
        "overview": report.overview,
        "size": size_text(report.overview["bytes"]),
        "notes": report.notes,
    }
    return render_template(Path(__file__).with_name("audit.html.j2"), content)


def _shown(example: Example) -> dict[str, Any]:
    """Give an example as the template takes it. A picture is a data URI, unless no browser shows its format."""
    text, image = example.text if example.text is not None else example.reason, None
    if example.image is not None:
        kind = next((kind for sign, kind in _TYPES if example.image.startswith(sign)), None)
        if kind is not None:
            image = f"data:image/{kind};base64,{base64.b64encode(example.image).decode()}"
        else:
            text = "a picture in a format that browsers don't show"
    if text is not None and len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    return {"where": example.where, "label": example.label, "image": image, "text": text}
