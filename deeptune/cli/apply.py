"""`deeptune predict`, `evaluate` and `embed`: use a finished run, or a plain backbone, on other files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from deeptune.cli import completion
from deeptune.cli.run_argument import named_run
from deeptune.errors import CheckpointError, DataError, SpecError
from deeptune.formatting import counted
from deeptune.pooling import Pooling
from deeptune.progress import Progress
from deeptune.show.console import console, progress_bar, say, say_json

if TYPE_CHECKING:
    from deeptune.api.embedding import EmbeddingModel
    from deeptune.data.sources.source import Source
    from deeptune.runs import RunDirectory

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        shell_complete=completion.runs,
        help="Run directory, id, unique start or end of an id, or `latest`.",
    ),
]
DataOption = Annotated[
    str, typer.Option("--data", help="Parquet file, glob, folder, or data to import.", metavar="FILE")
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.", metavar="OUT")]
RootOption = Annotated[Path, typer.Option("--runs", help="Folder in which run ids are looked up.")]
DeviceOption = Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`, `cuda:N` or `mps`.")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Rows at once; by default as in the run.")]
BadOption = Annotated[str, typer.Option("--on-bad-sample", help="`skip` writes nulls and the reason; `error` stops.")]
JsonProgressOption = Annotated[
    bool, typer.Option("--json-progress", help="Progress as lines of JSON on stderr, for other programs.")
]
FilesOption = Annotated[
    str | None,
    typer.Option("--root", help="Folder at which the names of image files in the column start.", metavar="DIR"),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
POOLINGS = ", ".join(f"`{name}`" for name in get_args(Pooling)[:-1]) + f" or `{get_args(Pooling)[-1]}`"

MIN_INTERVAL = 0.25  # seconds between lines of progress


def predict(
    run: RunArgument,
    data: DataOption,
    output: OutputOption,
    runs: RootOption = Path("runs"),
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    on_bad_sample: BadOption = "skip",
    root: FilesOption = None,
    abstain_below: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Leave a prediction empty where its confidence is lower; the column `abstained` says where.",
            metavar="CONFIDENCE",
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=0.999,
            help="Share of rows whose set or interval should contain the truth; by default as in the run.",
            metavar="SHARE",
        ),
    ] = None,
    quiet: QuietOption = False,
    json_progress: JsonProgressOption = False,
) -> None:
    """Predict a file's rows with a finished run.

    The run's best model is used, with its own columns and preprocessing. Labels are not needed; row order is kept.
    """
    _check_policy(on_bad_sample)

    directory = named_run(run, runs)
    _check_output(output, data, directory, kinds=(".parquet",))
    from deeptune.api.model import Model
    from deeptune.api.options import Options
    from deeptune.api.run import Run

    model = Model(Run(directory), device=device)
    with shown_progress("predicting", quiet, json_progress) as progress, _hint():
        source = _source(data, root or model.spec.data.root)
        options = Options(batch_size=batch_size, on_bad_sample=on_bad_sample, progress=progress, notify=_tell)
        options |= Options(abstain_below=abstain_below, coverage=coverage)
        errors = model.write_predictions(source, output, **options)
    _tell_written(output, source.num_rows, errors, "prediction")
    if abstain_below is not None:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        left = pc.sum(pq.read_table(output, columns=["abstained"])["abstained"]).as_py() or 0
        say(f"{left:,} of them are left empty: their confidence is below {abstain_below:g} (column `abstained`)")


def evaluate(
    run: RunArgument,
    data: DataOption,
    runs: RootOption = Path("runs"),
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    on_bad_sample: BadOption = "error",
    root: FilesOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the metrics to this JSON file as well.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
    quiet: QuietOption = False,
    json_progress: JsonProgressOption = False,
) -> None:
    """Score a finished run on a labelled file.

    The metrics are those of the run itself. If some rows are test rows of the run, it records that they were looked at.
    """
    _check_policy(on_bad_sample)
    from deeptune.runs import write_json

    directory = named_run(run, runs)
    if output is not None:
        _check_output(output, data, directory, kinds=(".json",))
    from deeptune.api.model import Model
    from deeptune.api.options import Options
    from deeptune.api.run import Run
    from deeptune.cli.summary import metrics_table, worst_classes_table

    model = Model(Run(directory), device=device)
    with shown_progress("scoring", quiet or as_json, json_progress) as progress, _hint():
        source = _source(data, root or model.spec.data.root)
        options = Options(batch_size=batch_size, on_bad_sample=on_bad_sample, progress=progress, notify=_tell)
        metrics = model.evaluate(source, **options)
    refresh(directory)
    if output is not None:
        write_json(output, metrics)
    if as_json:
        say_json(metrics)
        return
    out = console()
    out.print(metrics_table(metrics, title=f"{directory.id} on {data}"))
    if (worst := worst_classes_table(metrics)) is not None:
        out.print(worst)
    if metrics["n"] < source.num_rows:
        say(f"{source.num_rows - metrics['n']:,} of {source.num_rows:,} rows could not be scored")


def embed(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", shell_complete=completion.runs, help="Run whose model embeds; leave out with --backbone."
        ),
    ] = None,
    data: DataOption = ...,  # type: ignore[assignment]
    output: OutputOption = ...,  # type: ignore[assignment]
    backbone: Annotated[
        str | None,
        typer.Option(shell_complete=completion.backbones, help="Embed with this plain backbone instead of a run."),
    ] = None,
    weights: Annotated[str, typer.Option(help="With --backbone: `pretrained`, `random` or a path.")] = "pretrained",
    pooling: Annotated[str, typer.Option(help=f"With --backbone: {POOLINGS}.")] = "auto",
    image_size: Annotated[int | None, typer.Option(help="With --backbone: pixels on a side.")] = None,
    max_length: Annotated[int | None, typer.Option(help="With --backbone: tokens kept of a text.")] = None,
    input: Annotated[
        list[str] | None, typer.Option(help="With --backbone: the input column; twice for pairs of texts.")
    ] = None,
    label: Annotated[str, typer.Option(help="With --backbone: the label column, if the file has one.")] = "labels",
    value_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="With --backbone: range that is scaled to 0 to 255 in images of more than 8 bits; found on the file "
            "when left out.",
            metavar="LOW HIGH",
        ),
    ] = None,
    format: Annotated[
        str, typer.Option(help="`list`: one column of lists. `wide`: columns e0, e1, …; then OUT may be a .csv.")
    ] = "list",
    dtype: Annotated[str, typer.Option(help="`float32`, or `float16` for half the size.")] = "float32",
    layer: Annotated[
        str | None, typer.Option(help="Embed with the output of this layer, averaged over positions or tokens.")
    ] = None,
    runs: RootOption = Path("runs"),
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    on_bad_sample: BadOption = "skip",
    root: FilesOption = None,
    quiet: QuietOption = False,
    json_progress: JsonProgressOption = False,
) -> None:
    """Write an embedding for every row of a file.

    The model is a finished run's best one or, with --backbone, a plain pretrained backbone. Layers have the names of
    PyTorch's `named_modules`, such as `backbone.net.layer3`.
    """
    if (run is None) == (backbone is None):
        raise SpecError(
            "give either a RUN or --backbone NAME",
            hint="For example: deeptune embed latest --data FILE --output OUT.parquet",
        )
    _check_policy(on_bad_sample)

    directory = None if run is None else named_run(run, runs)
    _check_output(output, data, directory, kinds=(".parquet", ".csv"))
    from deeptune.api.options import Options
    from deeptune.engine.embedding_form import EmbeddingForm

    EmbeddingForm(format, dtype).require_fits(output)  # type: ignore[arg-type]  # it checks the words itself
    with shown_progress("embedding", quiet, json_progress) as progress, _hint():
        model: EmbeddingModel
        if directory is not None:
            from deeptune.api.model import Model
            from deeptune.api.run import Run

            model = Model(Run(directory), device=device)
            root = root or model.spec.data.root
        else:
            assert backbone is not None
            from deeptune.api.backbone import load_backbone

            sizes = {"image_size": image_size, "max_length": max_length}
            settings = {"pooling": pooling, **{key: size for key, size in sizes.items() if size is not None}}
            model = load_backbone(
                backbone, weights=weights, settings=settings, input=input or None, value_range=value_range,
                device=device,
            )  # fmt: skip
            model.label = label
        source = _source(data, root)
        options = Options(batch_size=batch_size, on_bad_sample=on_bad_sample, progress=progress, notify=_tell)
        errors = model.write_embeddings(source, output, format=format, dtype=dtype, layer=layer, **options)
    _tell_written(output, source.num_rows, errors, "embedding")


def _source(data: str, root: str | None) -> Source:
    from deeptune.data.sources.parquet import open_source

    source = open_source(data, key="--data", root=root)
    for note in source.notes:
        _tell(note)
    return source


@contextmanager
def _hint() -> Iterator[None]:
    """Add what to type to an error of samples that can't be used."""
    from deeptune.engine.predict import BadSamples

    try:
        yield
    except BadSamples as error:
        hint = "Pass --on-bad-sample skip to leave them out, with nulls in their place."
        raise DataError(error.message, hint=hint) from None


def refresh(run: RunDirectory) -> None:
    """Bring a run's report up to date where that is possible; the older one serves as well."""
    from deeptune.report import refresh_report

    try:
        refresh_report(run)
    except CheckpointError as error:
        _tell(f"the report does not have the latest looks at test rows: {error.message}")


def _tell(text: str) -> None:
    say(text, stderr=True)


def _check_policy(policy: str) -> None:
    if policy not in ("skip", "error"):
        raise SpecError(f"--on-bad-sample: expected 'skip' or 'error', got {policy!r}")


def _check_output(output: Path, data: str, run: RunDirectory | None, *, kinds: tuple[str, ...]) -> None:
    """Raise before the work, not after it, when the result cannot be written or would replace what it is made from.

    `kinds` are the suffixes of what is written: another kind of data must not be in the name.
    """
    from deeptune.runs.files import require_regular
    from deeptune.spec.sources import is_data

    if output.is_dir():
        raise CheckpointError(f"cannot write {output}: it is a folder", hint="Give a file name, such as out.parquet.")
    require_regular(output)
    folder = output.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise CheckpointError(f"cannot write {output}: no right to write in {folder}", hint="Choose another --output.")
    _require_no_input(output, data, run)
    if is_data(output.name) and not output.name.lower().endswith(kinds):
        raise SpecError(
            f"--output: {output} is named as another kind of file than is written: {' or '.join(kinds)}",
            hint=f"Write {output.stem}{kinds[0]}.",
        )


def _require_no_input(output: Path, data: str, run: RunDirectory | None) -> None:
    """Raise SpecError when `output`, by whatever path, is a file of the data or the run, or joins a folder of data."""
    problem = None
    if run is not None and run.holds(output):
        problem = "is a file of the run itself"
    elif _is_among(output, data, "--data"):
        problem = "is the data that is read, and would be replaced"
    elif run is not None and any(_is_among(output, paths, key) for key, paths in _data_of(run)):
        problem = "is data that the run was trained on or scored with, and would be replaced"
    elif output.suffix == ".parquet" and os.path.isdir(data) and output.resolve().is_relative_to(Path(data).resolve()):
        problem = f"is in the folder {data}, and would become part of the data"
    if problem:
        raise SpecError(f"--output: {output} {problem}", hint="Choose a file outside the data and the run.")


def _is_among(output: Path, paths: Any, key: str) -> bool:
    from deeptune.data.sources.parquet import find_files

    with suppress(DataError):  # missing data is reported where it is opened; a run needs its own no longer
        return output.exists() and any(os.path.samefile(output, file) for file in find_files(paths, key=key))
    return False


def _data_of(run: RunDirectory) -> list[tuple[str, Any]]:
    """Return the data that a run was trained on, as (key, paths)."""
    from deeptune.spec import load_spec

    spec = load_spec(run.spec).data
    return [(f"data.{key}", paths) for key in ("path", "train", "val", "test") if (paths := getattr(spec, key))]


def _tell_written(output: Path, rows: int, errors: dict[int, str], what: str) -> None:
    say(f"wrote {counted(rows, what)} to {output}")
    if errors:
        first, reason = next(iter(errors.items()))
        rows_have = counted(len(errors), "row has", "rows have")
        say(f"{rows_have} none (see the column `error`); the first is row {first}: {reason}")


@contextmanager
def shown_progress(what: str, quiet: bool, as_json: bool = False) -> Iterator[Any]:
    """Yield a bar on stderr while a file is worked on; nothing where stderr is not a terminal.

    With `as_json` it is a line such as {"progress": {"what": "predicting", "done": 32, "total": 100}} now and then.
    """
    if as_json:
        yield _json_progress(what)
        return
    out = console(stderr=True)
    if quiet or not out.is_terminal:
        yield lambda _done, _total: None
        return
    with progress_bar(out) as (bar, task):
        last = 0

        def progress(done: int, total: int) -> None:
            nonlocal last
            # The data check counts to the total first; the backbone and the head then start again from the beginning.
            if done < last:
                bar.update(task, description=what)
            last = done
            bar.update(task, completed=done, total=total)

        yield progress


def _json_progress(what: str) -> Progress:
    """Return a function that writes a JSON line once a MIN_INTERVAL, and at each end of a pass."""
    last, written, doing = 0, 0.0, "reading"

    def progress(done: int, total: int) -> None:
        nonlocal last, written, doing
        if done < last:
            doing = what
        last, now = done, time.monotonic()
        if now - written >= MIN_INTERVAL or done == total:
            written = now
            say(json.dumps({"progress": {"what": doing, "done": done, "total": total}}), stderr=True)

    return progress
