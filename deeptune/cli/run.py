"""`deeptune run`: from a spec to a finished run, watched while it goes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.cli.console import console, say, say_json, short_path

if TYPE_CHECKING:
    from deeptune.runs import RunDirectory
    from deeptune.spec import RunSpec


def run(
    spec: Annotated[
        str | None, typer.Argument(metavar="SPEC", help="A spec file or a preset (`deeptune presets`).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key: section.key=value, a TOML value."),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="FILE", help="Short for --set data.path=FILE.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="ROOT", help="Folder in which the run directory is made.")
    ] = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Resolve and check everything, print it, train nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Make the last line of stdout one JSON object.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines instead of the dashboard.")] = False,
) -> None:
    """Fine-tune a backbone as a spec says.

    The run directory then holds test metrics and predictions, the best weights, embeddings and a report.
    """
    from deeptune.spec import load_spec
    from deeptune.spec.presets import find_spec_file

    settings = list(overrides or [])
    values = load_spec(find_spec_file(spec) if spec is not None else None, settings, data=data)
    if dry_run:
        _dry_run(values, as_json)
        return

    from deeptune.catalog import find
    from deeptune.runs import new_run_directory
    from deeptune.spec.defaults import run_name

    find(values.backbone.name)  # a mistyped name is known at once, and leaves no run behind
    directory = new_run_directory(output, run_name(values))
    try:
        result = _watched(values, directory, plain=plain or as_json, lines_to_stderr=as_json)
    except BaseException as error:
        if as_json:
            state = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            say_json({"run": str(directory.path), "state": state, "test": {}})
        elif not plain:
            say(f"the run's files: {short_path(directory.path)}", stderr=True)
        raise
    if as_json:
        say_json({"run": str(directory.path), "state": result["state"], "test": result["test"]})
    else:
        from deeptune.cli.summary import print_summary

        print_summary(directory)


def _watched(spec: RunSpec, directory: RunDirectory, *, plain: bool, lines_to_stderr: bool) -> dict[str, Any]:
    """Run in this process, with a viewer that reads the run directory in a thread beside it.

    What libraries print goes to console.log: the terminal belongs to the viewer.
    """
    from deeptune.cli.viewer import watch
    from deeptune.runs.files import storage_errors

    stream = sys.stderr if lines_to_stderr else sys.stdout
    stream.flush()
    terminal = os.fdopen(os.dup(stream.fileno()), "w", encoding="utf-8", errors="replace", buffering=1)
    with storage_errors(directory.console):
        log = os.open(directory.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    saved = os.dup(1), os.dup(2)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        with watch(directory, console(file=terminal), plain=plain):
            from deeptune.engine.train import execute  # after the first picture: this import takes seconds

            return execute(spec, directory, argv=["deeptune", *sys.argv[1:]])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for handle in (log, *saved):
            os.close(handle)
        terminal.close()


def _dry_run(spec: RunSpec, as_json: bool) -> None:
    from deeptune.engine.plan import describe

    facts = describe(spec)
    if as_json:
        say_json(facts)
        return
    from deeptune.cli.summary import print_plan

    print_plan(facts)
