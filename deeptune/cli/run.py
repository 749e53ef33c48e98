"""`deeptune run`: fine-tune as a spec says, and show the progress."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.cli import completion
from deeptune.environment import short_path
from deeptune.errors import RunStopped, SpecError
from deeptune.show.console import console, say, say_json

if TYPE_CHECKING:
    from deeptune.runs import RunDirectory, RunState
    from deeptune.spec import RunSpec

DetachOption = Annotated[bool, typer.Option("--detach", "-d", help="Start the run, print its id, and return.")]
ForegroundOption = Annotated[
    bool, typer.Option("--foreground", help="Run in this process, for Slurm, containers and CI.")
]
PlainOption = Annotated[bool, typer.Option("--plain", help="Plain lines instead of the dashboard.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Make the last line of stdout one JSON object.")]


def run(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC", shell_complete=completion.presets, help="A spec file or a preset (`deeptune presets`)."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", shell_complete=completion.settings, metavar="KEY=VALUE", help="Override a key; the value is TOML."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FILE", help="Short for --set data.path=FILE; what is not Parquet is imported."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="ROOT", help="Folder to make the run directory in.")
    ] = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Resolve and check everything, print it, and don't train.")
    ] = False,
    detach: DetachOption = False,
    foreground: ForegroundOption = False,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """Fine-tune a backbone as a spec describes.

    The run directory receives test metrics and predictions, the best weights, embeddings and a report. The run is a
    separate process: closing the terminal only ends the view of it.
    """
    from deeptune.spec import load_spec
    from deeptune.spec.presets import find_spec_file

    check_exclusive(detach, foreground)
    settings = list(overrides or [])
    values = load_spec(find_spec_file(spec) if spec is not None else None, settings, data=data)
    _import_first(values, quiet=as_json or plain)
    if dry_run:
        _dry_run(values, as_json)
        return

    from deeptune.data.splits.planner import draft_plan
    from deeptune.runs.launch import make_run

    draft_plan(values)  # files, columns and labels that can't be used are known at once, and leave no run behind
    directory = make_run(values, output)  # a mistyped backbone is known at once, and leaves no run behind
    run_and_report(directory, detach=detach, foreground=foreground, plain=plain, as_json=as_json)


def _import_first(spec: RunSpec, *, quiet: bool) -> None:
    """Import data that is not a Parquet file, with a progress bar: the run then finds it in the cache.

    Raises DataError before there is a run.
    """
    paths = {key: getattr(spec.data, key) for key in ("path", "train", "val", "test")}
    others = {key: value for key, value in paths.items() if value and not _is_parquet(value)}
    if not others:
        return
    from deeptune.cli.importing import bar
    from deeptune.data.sources.parquet import find_data

    with bar(quiet) as (progress, _):
        for key, value in others.items():
            find_data(value, key=f"data.{key}", root=spec.data.root, progress=progress)


def _is_parquet(paths: str | list[str]) -> bool:
    """Check whether all of some paths are Parquet files, or samples that ship, by their names."""
    items = [paths] if isinstance(paths, str) else paths
    return all(path.endswith(".parquet") or path.startswith("sample:") for path in items)


def check_exclusive(detach: bool, foreground: bool) -> None:
    """Raise SpecError for `--detach` with `--foreground`."""
    if detach and foreground:
        raise SpecError("--detach and --foreground exclude each other")


def run_and_report(
    directory: RunDirectory, *, force: bool = False, detach: bool, foreground: bool, plain: bool, as_json: bool
) -> None:
    """Do or resume the run in `directory`, and print how it ended. Raises the error that ended it."""
    from deeptune.cli.watch import signals, tell_it_goes_on, watch
    from deeptune.runs import run_state
    from deeptune.runs.launch import start_runner
    from deeptune.runs.logout_check import logout_warning
    from deeptune.runs.state import ending

    if not foreground and (warning := logout_warning()) is not None:
        say(f"warning: {warning}", stderr=True)
    state: RunState | None = None
    try:
        if foreground:
            _in_this_process(directory, force=force, plain=plain or as_json, lines_to_stderr=as_json)
            state = run_state(directory)
        else:
            with signals() as interrupts:
                start_runner(directory, force=force)
                if detach:
                    _tell_detached(directory, as_json)
                    return
                state = watch(directory, console(stderr=as_json), interrupts, plain=plain or as_json, stops=True)
        if state is None:
            tell_it_goes_on(directory)
        elif (error := ending(directory, state)) is not None:
            raise error
    except BaseException as error:
        if as_json:
            say_json(_outcome(directory))
        elif not plain and not isinstance(error, RunStopped):
            say(f"the run's files: {short_path(directory.path)}", stderr=True)
        raise
    if as_json:
        say_json(_outcome(directory))
    elif state is not None:
        from deeptune.cli.summary import print_summary

        print_summary(directory)


def _outcome(directory: RunDirectory) -> dict[str, Any]:
    """Describe a run for a script: its directory, its state, and its test metrics once it has some."""
    from deeptune.runs import run_state

    state = run_state(directory)
    test = state.result.get("test")
    return {"run": str(directory.path), "state": state.word, "test": test if isinstance(test, dict) else {}}


def _tell_detached(directory: RunDirectory, as_json: bool) -> None:
    from deeptune.runs import run_state

    if as_json:
        say_json({"run": str(directory.path), "state": run_state(directory).word})
        return
    say(directory.id)
    for verb, what in (("attach", "watch it"), ("stop", "stop it, to be resumed")):
        say(f"deeptune {verb} {directory.reference}   # {what}", stderr=True)


def _in_this_process(directory: RunDirectory, *, force: bool, plain: bool, lines_to_stderr: bool) -> None:
    """Do the run in this process, with a viewer in a second thread that reads the run directory.

    The output of libraries goes to console.log, as the viewer needs the terminal.
    """
    from deeptune.engine.runner import do_run
    from deeptune.runs import run_state
    from deeptune.runs.files import storage_errors
    from deeptune.runs.state import ending
    from deeptune.show.viewer import Viewer, beside

    stream = sys.stderr if lines_to_stderr else sys.stdout
    stream.flush()
    terminal = os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors=stream.errors, buffering=1)
    with storage_errors(directory.console):
        log = os.open(directory.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    saved = os.dup(1), os.dup(2)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        with beside(Viewer(directory, console(file=terminal), plain=plain)):
            do_run(directory, force=force, argv=["deeptune", *sys.argv[1:]])
    except RunStopped as stopped:
        raise ending(directory, run_state(directory)) or stopped from None  # the same, with how to go on
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for handle in (log, *saved):
            os.close(handle)
        with suppress(OSError):  # it was closed at its other end
            terminal.close()


def _dry_run(spec: RunSpec, as_json: bool) -> None:
    from deeptune.engine.dry_run import describe

    facts = describe(spec)
    if as_json:
        say_json(facts)
        return
    from deeptune.cli.summary import print_plan

    print_plan(facts)
