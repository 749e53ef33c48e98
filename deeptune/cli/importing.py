"""`deeptune import`: pictures, tables, archives and medical files as one Parquet file."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.errors import CheckpointError, DataError, SpecError
from deeptune.formatting import counted
from deeptune.show.console import console, say, say_json
from deeptune.spec.tasks import USUAL_TASKS

if TYPE_CHECKING:
    from deeptune.importing import Imported, Options
    from deeptune.importing.reader import Reader


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of pictures, CSV, TSV, XLSX, ODS, JSON lines, fastText, ZIP or TAR of these, .npz, WebDataset "
            "shards, Hugging Face data set folder, DICOM or NIfTI.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.", metavar="FILE.parquet")],
    input: Annotated[
        str | None, typer.Option(help="Column of texts or of names of pictures.", metavar="COLUMN")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of labels.", metavar="COLUMN")] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Column whose equal values stay in one split, such as a patient.", metavar="COLUMN"),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Column that says train, val or test.", metavar="COLUMN")] = None,
    root: Annotated[str | None, typer.Option(help="Folder of the pictures that a table names.", metavar="DIR")] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of a table; detected when left out.")] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Character between values, or `tab`; detected when left out.")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(help="Sheet of a spreadsheet; the first with rows when left out.")
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header", help="Whether a table begins with a row of names; detected when left out."
        ),
    ] = None,
    classes: Annotated[
        bool, typer.Option("--classes/--no-classes", help="Whether the folders of pictures are their classes.")
    ] = True,
    paths: Annotated[
        bool, typer.Option("--paths/--no-paths", help="Whether to keep the names of files, which may name patients.")
    ] = True,
    window: Annotated[
        bool, typer.Option("--window", help="DICOM: values as the file's window shows them, instead of all.")
    ] = False,
    tag: Annotated[
        list[str] | None, typer.Option(help="DICOM attribute to keep as a column, such as InstitutionName.")
    ] = None,
    ask: Annotated[
        bool | None, typer.Option("--ask/--no-ask", help="Whether to ask for columns; by default in a terminal.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an output that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Import data into one Parquet file.

    The bytes of pictures stay as they are. What can't be used is left out and listed with its reason. An import that
    was stopped resumes where it was.
    """
    from deeptune.importing import Options, import_data

    _check_output(output, source, force)
    options = Options(
        input=input, label=label, group=group, split=split, root=root, encoding=encoding, delimiter=delimiter,
        sheet=sheet, header=header, classes=classes, paths=paths, window=window, tags=tuple(tag or ()),
    )  # fmt: skip
    asks = (sys.stdin.isatty() and sys.stdout.isatty() and not as_json) if ask is None else ask
    with bar(quiet or as_json) as (progress, pause):

        def choose(reader: Reader, options: Options) -> Options:
            pause()
            return _asked(reader, options)

        done = import_data(source, output, options, progress=progress, choose=choose if asks else None)
    if as_json:
        say_json(done.to_json() | {"run": next_command(done)}, indent=2)
    else:
        _tell(done)


def _check_output(output: Path, source: Path, force: bool) -> None:
    from deeptune.runs.files import require_regular

    if output.suffix != ".parquet":
        raise SpecError(
            f"--output: {output} does not end with .parquet", hint=f"Write {output.stem or 'data'}.parquet."
        )
    if output.is_dir():
        raise CheckpointError(f"cannot write {output}: it is a folder", hint="Give a file name, such as data.parquet.")
    require_regular(output)
    if output.exists() and not force:
        raise SpecError(f"--output: {output} is there already", hint="Pass --force to replace it, or choose another.")
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise SpecError(
            f"--output: {output} is in the folder {source}, and would become part of it",
            hint="Choose a file outside of it.",
        )


@contextmanager
def bar(quiet: bool) -> Iterator[tuple[Any, Any]]:
    """Yield a progress bar on stderr, as (progress, what hides it while something is asked)."""
    out = console(stderr=True)
    if quiet or not out.is_terminal:
        yield (lambda _done, _total: None), lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=out, refresh_per_second=4, transient=True,
    )  # fmt: skip
    task = bar.add_task("importing", total=None)

    def progress(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield progress, bar.stop
    finally:
        bar.stop()


def _asked(reader: Reader, options: Options) -> Options:
    """Return options with the columns that the person chose, if none is named and the source does not say them."""
    from dataclasses import replace

    if options.roles or "label" in reader.roles or len(reader.schema.names) < 2:
        return options
    say(f"{reader.path}: {reader.kind}")
    for field in reader.schema:
        say(f"  {field.name}  ({field.type})")
    label_guess, input_guess = _guesses(reader)
    names = reader.schema.names
    chosen: dict[str, str | None] = {"label": _ask("label column", names, label_guess)}
    if "input" not in reader.roles:
        chosen["input"] = _ask("text column", names, input_guess)
    if "group" not in reader.roles:
        chosen["group"] = _ask("column whose rows stay together, such as a patient", names, "")
    return replace(options, **chosen)  # type: ignore[arg-type]


def _guesses(reader: Reader) -> tuple[str, str]:
    """Return the likely columns of labels and of the input, or empty texts."""
    from deeptune.data.inspect import overview_of
    from deeptune.data.sources.memory import MemorySource

    first = next(iter(reader.pieces()), None)
    if first is None or not first.table.num_rows:
        return "", ""
    guesses = overview_of(MemorySource(first.table)).guesses
    names = reader.schema.names
    label = guesses.get("data.label", "labels" if "labels" in names else "")
    return label, guesses.get("data.input", "text" if "text" in names else "")


def _ask(what: str, names: list[str], guess: str) -> str | None:
    while True:
        answer = typer.prompt(f"{what} (- for none)", default=guess or "-").strip()
        if answer == "-":
            return None
        if answer in names:
            return answer
        say(f"there is no column {answer!r}")


def next_command(done: Imported) -> str | None:
    """Return the command that shows what a run of the imported file would do.

    None where an input or labels are lacking.
    """
    settings, lacking = _settings(done)
    return None if lacking else _run(done, settings)


def _settings(done: Imported) -> tuple[dict[str, str], str | None]:
    """Return the settings of a run of the imported file, and what it lacks for a run: `input`, `labels` or nothing."""
    from deeptune.data.first_spec import rows_without_label, usual_backbone
    from deeptune.data.inspect import overview
    from deeptune.importing.folders import FOLDER, ONE

    settings: dict[str, str] = {}
    modality = None
    label = done.roles.get("label", "labels")
    with suppress(DataError):
        found = overview(done.output)
        known = "label" in done.roles or done.kind.endswith((FOLDER, *ONE.values()))
        settings |= {
            key: value for key, value in found.guesses.items() if not (known and key in ("data.label", "task"))
        }
        input = found.guesses.get("data.input", done.roles.get("input"))
        by_name = {column.name: column.modality for column in found.columns}
        modality = _modality(input, by_name, found.guesses.get("data.modality"))
        if "group" in done.roles:
            settings["data.group"] = done.roles["group"]
        elif found.groups:
            settings["data.group"] = found.groups[0]
    if label != "labels":
        settings["data.label"] = label
    if modality is None:
        return settings, "input"
    settings["backbone.name"] = usual_backbone(modality)
    if "data.label" not in settings and label not in done.columns:
        return settings, "labels"
    if rows_without_label(done.output, settings.get("data.label", label), settings.get("task", USUAL_TASKS["classes"])):
        settings["data.on_bad_sample"] = "skip"
    return settings, None


def _modality(input: str | None, by_name: dict[str, str | None], default: str | None) -> str | None:
    """Return the modality of the input column, the first one of several; without a column, that of the usual column."""
    from deeptune.spec.modalities import COLUMN_MODALITIES

    if input is None:
        usual = [kind for kind, one in COLUMN_MODALITIES.items() if one.input in by_name and default in (None, kind)]
        return usual[0] if usual else None
    return by_name.get(json.loads(input)[0] if input.startswith("[") else input)


def _run(done: Imported, settings: dict[str, str]) -> str:
    words = " ".join(f"--set {key}={_toml(value)}" for key, value in settings.items())
    return f"deeptune run --data {shlex.quote(done.output)} {words} --dry-run"


def _way_on(done: Imported) -> str:
    """Say what to do next."""
    settings, lacking = _settings(done)
    if "data.on_bad_sample" in settings:
        say("some rows have no label: the run below leaves them out, counted and listed")
    if lacking == "input":
        return "a run learns from images or texts, and no column holds any: import a table that has such a column"
    if lacking is None:
        return _run(done, settings)
    others = [name for name in done.columns if name not in (done.roles.get("input"), "path", done.roles.get("group"))]
    way = (
        "name one of its columns with --set data.label=COLUMN" if others else "put pictures in a folder for each class"
    )
    if os.path.isdir(done.source) and "path" in done.columns:
        way += (
            f", or import a table that names the files (deeptune import TABLE.csv --root {shlex.quote(done.source)} …)"
        )
    return (
        f"a run needs labels, and no column is known to hold any: {way}. "
        f"Without labels: deeptune embed --backbone {settings['backbone.name']} --data {shlex.quote(done.output)} "
        "-o embeddings.parquet"
    )


def _toml(value: str) -> str:
    """Return a value as --set takes it; several columns, which a form shows with commas between, are a list."""
    from deeptune.spec.toml import parse_toml

    if not value.startswith("["):
        with suppress(ValueError):
            if not isinstance(parse_toml(f"value = {value}").get("value"), str):
                value = f'"{value}"'  # a word such as true or 3 is not a string to TOML
    return shlex.quote(value)


def _tell(done: Imported) -> None:
    from deeptune.environment import short_path
    from deeptune.importing.file_names import ignored_text

    say(f"{done.source}: {done.kind}")
    for note in done.notes:
        say(f"  {note}")
    for what, count in done.ignored.items():
        say(f"  ignored: {ignored_text(what, count)}")
    size = os.path.getsize(done.output)
    say(f"wrote {counted(done.rows, 'row')} to {done.output} ({size:,} bytes): {', '.join(done.columns)}")
    if done.left_out:
        say(f"left out: {done.left_out:,}; each with its reason in {short_path(done.left_out_file or '')}")
        for reason, count in done.reasons:
            say(f"  {count:,} × {reason}")
    say(f"next: {_way_on(done)}")
