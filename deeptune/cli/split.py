"""`deeptune split`: train, val and test files, or a column that says them, to keep and to share."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.errors import CheckpointError, DataError, SpecError
from deeptune.show.console import console, safe, say, say_json
from deeptune.spec.modalities import MODALITIES
from deeptune.spec.tasks import TASK_NAMES, USUAL_TASKS

if TYPE_CHECKING:
    from deeptune.data.splits.assignments import Assignment, SplitMethod
    from deeptune.spec import RunSpec


def split(
    data: Annotated[str, typer.Argument(metavar="FILE", help="Parquet file, glob or folder to split.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for train.parquet, val.parquet and test.parquet; a Parquet file with --column, --folds or "
            "--leave-out.",
            metavar="OUT",
        ),
    ],
    column: Annotated[
        str | None, typer.Option(help="Write one file with this column of train, val and test instead.", metavar="NAME")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Label column; repeat it for several.")] = None,
    task: Annotated[str, typer.Option(help=f"How labels are balanced: {TASK_NAMES}.")] = USUAL_TASKS["classes"],
    group: Annotated[str | None, typer.Option(help="Column whose equal values stay in one split.")] = None,
    duplicates: Annotated[
        str, typer.Option(help="`group` keeps identical samples in one split; for random splits.")
    ] = "keep",
    time: Annotated[str | None, typer.Option(help="Column of times: test is the latest rows.")] = None,
    leave_out: Annotated[
        str | None, typer.Option(help="Column such as a site: one split column for each value, whose rows are test.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Number of folds: one split column for each, whose rows are test.")
    ] = None,
    val: Annotated[float, typer.Option(min=0, max=1, help="Share of val.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of test; folds and sites have their own.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is random.")] = 42,
    input: Annotated[list[str] | None, typer.Option(help="Input column; twice for pairs of texts.")] = None,
    on_bad_sample: Annotated[
        str, typer.Option("--on-bad-sample", help="Rows without a label: `error`, or `skip` to leave them out.")
    ] = "error",
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an output that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Split a file, and keep the splits.

    Labels are balanced as a run balances them, groups stay together, and the mapping of labels and the split of each
    row are written too. Folds and sites are columns of one file. `data.split_column` reads a column.
    """
    from deeptune.data.splits.assignments import SplitMethod, assign

    way = SplitMethod(time, leave_out, folds)
    values: dict[str, Any] = {
        "path": data, "label": label or None, "group": group, "input": input,
        "duplicates": duplicates, "on_bad_sample": on_bad_sample,
        "split": {"train": 1 - val - test, "val": val, "test": test},
    }  # fmt: skip
    values["input"] = input or _input(data)
    spec = _spec(task, {key: value for key, value in values.items() if value is not None}, seed)
    in_one = column is not None or leave_out is not None or folds is not None
    _check_output(output, data, in_one=in_one, force=force)
    found = assign(spec, way, column or ("split" if way == SplitMethod() or time else "fold"))
    summary = found.summary()
    facts = {
        "data": data, "fingerprint": found.source.fingerprint(), "way": str(way), "seed": seed, "task": task,
        "group": group, "tests": found.tests, "counts": summary, "warnings": found.warnings,
    }  # fmt: skip
    written = _write(found, output, facts, in_one=in_one)
    if as_json:
        say_json({**facts, "files": written}, indent=2)
        return
    _tell(found, summary, way, written, spec)


def _input(data: str) -> str | list[str] | None:
    """Return the input column that a run would need by name.

    Splits depend on it only where duplicates stay together.
    """
    from deeptune.data.columns.input_columns import likely_input, resolve_columns
    from deeptune.data.sources.parquet import open_source

    source = open_source(data)
    try:
        resolve_columns(source)
    except DataError:
        likely = likely_input(source)
        return None if likely is None else likely[0]
    return None


def _spec(task: str, data: dict[str, Any], seed: int) -> RunSpec:
    """Return the options as a run spec, so that the same rules check them."""
    from deeptune.spec.toml import validate

    whole = {"task": task, "data": data, "backbone": {"name": "resnet18"}, "train": {"seed": seed}}
    return validate(whole)


def _check_output(output: Path, data: str, *, in_one: bool, force: bool) -> None:
    from deeptune.data.sources.parquet import find_files
    from deeptune.spec.run_spec import SPLITS

    if in_one and output.suffix != ".parquet":
        raise SpecError(
            f"--output: {output} does not end with .parquet, and split columns go into one file",
            hint=f"Name it {output.name}.parquet.",
        )
    if not in_one and output.suffix == ".parquet":
        raise SpecError(
            f"--output: {output} is a file name, and each split is a file in a folder",
            hint="Name a folder, or pass --column split to write one file.",
        )
    if in_one and output.is_dir():
        raise CheckpointError(f"cannot write {output}: it is a folder")
    there = [output] if in_one else sorted(output.glob("*.parquet"))
    written = there if in_one else [output / f"{split}.parquet" for split in SPLITS]
    if taken := next((file for file in there if file.exists()), None):
        with suppress(DataError):  # what can't be read is said later
            own = {file.resolve() for file in find_files(data)}
            if read := next((file for file in written if file.resolve() in own), None):
                raise SpecError(f"--output: {read} is the data that is read", hint="Choose another name.")
        if not force:
            raise SpecError(f"--output: {taken} is there already", hint="Pass --force to replace it.")
    folder = Path(data)
    if folder.is_dir() and output.resolve().is_relative_to(folder.resolve()):
        raise SpecError(
            f"--output: {output} is in the folder {data}, and would become part of the data",
            hint="Name a place outside of that folder.",
        )


def _write(found: Assignment, output: Path, facts: dict[str, Any], *, in_one: bool) -> list[str]:
    from deeptune.data.splits.written_splits import facts_file, write_column, write_files

    if in_one:
        write_column(found, output, facts)
        return [str(output), str(facts_file(output))]
    files = write_files(found, output, facts)
    return [*map(str, files), *(str(output / name) for name in ("splits.parquet", "labels.json", "split.json"))]


def _tell(found: Assignment, summary: dict[str, Any], way: SplitMethod, written: list[str], spec: RunSpec) -> None:
    from rich.table import Table

    from deeptune.data.splits.assignments import flat_counts

    out = console()
    for column, counts in summary.items():
        name = f"{column} ({found.tests[column]})" if column in found.tests else str(way)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column(safe(name))
        for split_ in ("train", "val", "test"):
            table.add_column(split_, justify="right")
        for what, *numbers in flat_counts(counts)[:20]:
            table.add_row(safe(what), *(f"{number:,}" for number in numbers))
        out.print(table)
    for warning in found.warnings:
        say(f"warning: {warning}")
    left = found.source.num_rows - len(found.rows)
    if left:
        say(f"{left:,} rows without a label are left out")
    say(f"wrote {', '.join(written)}")
    file = Path(written[0])
    if file.name == "train.parquet":
        keys = {Path(name).stem: name for name in written if Path(name).stem in ("train", "val", "test")}
        settings = [f"--set data.{split_}={name}" for split_, name in keys.items()]
        say(f"next: deeptune run {' '.join(settings)}{_more(found, spec)} --dry-run")
    else:
        column = next(iter(summary))
        say(f"next: deeptune run --data {file} --set data.split_column={column}{_more(found, spec)} --dry-run")


def _more(found: Assignment, spec: RunSpec) -> str:
    """Return the settings that a run needs beside the data."""
    from deeptune.data.first_spec import usual_backbone

    kinds = MODALITIES[found.modality].members
    keys = ("backbone.name", "backbone.text.name")
    settings = {key: usual_backbone(kind.name) for key, kind in zip(keys, kinds, strict=False)}
    if isinstance(spec.data.label, str) and spec.data.label != "labels":
        settings["data.label"] = spec.data.label
    if isinstance(spec.data.input, str):
        settings["data.input"] = spec.data.input
    elif spec.data.input is not None:
        from deeptune.spec.fields import quoted

        settings["data.input"] = shlex.quote(quoted(spec.data.input))
    if spec.data.group is not None:
        settings["data.group"] = spec.data.group
    if spec.task != USUAL_TASKS["classes"]:
        settings["task"] = spec.task
    return "".join(f" --set {key}={value}" for key, value in settings.items())
