"""`deeptune audit`: what is wrong with data, before anything learns from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.cli import completion
from deeptune.errors import DataError, SpecError
from deeptune.progress import StepProgress
from deeptune.show.console import console, say, say_json

if TYPE_CHECKING:
    from deeptune.auditing import AuditReport


def audit(
    data: Annotated[
        str | None,
        typer.Argument(metavar="[FILE|SPEC]", help="Parquet file, glob or folder; or a spec file or a preset."),
    ] = None,
    train: Annotated[str | None, typer.Option(metavar="FILE", help="Training file, instead of FILE.")] = None,
    val: Annotated[str | None, typer.Option(metavar="FILE", help="Validation file.")] = None,
    test: Annotated[str | None, typer.Option(metavar="FILE", help="Test file.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Label column; again for several.")] = None,
    input: Annotated[list[str] | None, typer.Option(help="Input column; again for pairs of texts.")] = None,
    group: Annotated[str | None, typer.Option(help="Column whose equal values belong together.")] = None,
    split_column: Annotated[str | None, typer.Option(help="Column that names the split of each row.")] = None,
    task: Annotated[str | None, typer.Option(help="Task, where the labels don't say it.")] = None,
    root: Annotated[str | None, typer.Option(metavar="DIR", help="Folder at which names of image files start.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            shell_complete=completion.backbones,
            help="Backbone whose tokenizer and features are used, such as that of the run.",
        ),
    ] = None,
    no_features: Annotated[
        bool, typer.Option("--no-features", help="Use cheap features only, which take seconds.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Time that features may take, estimated from their work; 120 where no backbone is named.",
        ),
    ] = None,
    fix: Annotated[Path | None, typer.Option(metavar="OUT.parquet", help="Write a cleaned file.")] = None,
    merge_labels: Annotated[
        bool, typer.Option("--merge-labels", help="With --fix: write variants of a label as the usual one.")
    ] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as HTML, with pictures.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 for warnings as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Audit data before anything learns from it.

    Finds broken and odd samples, duplicates, leaks between splits, wrong and variant labels, shortcuts and drift. Exits
    with 3 where there is an error, and with --strict where there is a warning.
    """
    files = {split: file for split, file in (("train", train), ("val", val), ("test", test)) if file is not None}
    if (data is None) == (not files):
        raise SpecError("give either FILE or SPEC, or --train with --val or --test", hint="deeptune audit data.parquet")
    if merge_labels and fix is None:
        raise SpecError("--merge-labels: is for --fix OUT.parquet")
    from deeptune.api.audit import audited, require_fixable
    from deeptune.auditing.examples import Examples

    source: Any = data if data is not None else files
    columns: dict[str, Any] = {
        "label": _one_or_several(label),
        "input": _one_or_several(input),
        "group": group,
        "split_column": split_column,
        "task": task,
        "root": root,
    }
    if fix is not None:
        require_fixable(source, fix, **columns)
    with _progress(quiet or as_json) as progress:
        report, found = audited(
            source,
            **columns,
            backbone=backbone,
            features=not no_features,
            budget=budget,
            progress=progress,
        )
    if as_json:
        say_json(report.to_json(), indent=2)
    else:
        from deeptune.show.findings import print_report

        out = console()
        utf8 = (sys.stdout.encoding or "").lower().startswith("utf")
        print_report(out, report, Examples(found) if out.is_terminal else None, ascii_only=not utf8 or out.no_color)
    if html is not None:
        from deeptune.auditing.html import write_html

        write_html(report, Examples(found), html)
        say(f"wrote {html}", stderr=True)
    if fix is not None:
        from deeptune.auditing.fixing import write_fixed

        for line in write_fixed(found, fix, merge_labels=merge_labels):
            say(line, stderr=True)
    if (code := exit_code(report, strict=strict)) != 0:
        raise typer.Exit(code)


def exit_code(report: AuditReport, *, strict: bool) -> int:
    """Choose the exit code by the worst finding."""
    counts = report.counts()
    return DataError.exit_code if counts["error"] or (strict and counts["warning"]) else 0


def _one_or_several(names: list[str] | None) -> str | list[str] | None:
    return names[0] if names and len(names) == 1 else names or None


@contextmanager
def _progress(quiet: bool) -> Iterator[StepProgress | None]:
    """Yield a bar on stderr with the name of the step; none where stderr is not a terminal."""
    out = console(stderr=True)
    if quiet or not out.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        console=out, refresh_per_second=4, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("reading", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
