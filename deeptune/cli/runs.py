"""`deeptune runs`, `status`, `attach` and `logs`: list runs, and show what they do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.cli.apply import RootOption, RunArgument
from deeptune.cli.run import PlainOption
from deeptune.cli.run_argument import named_run
from deeptune.environment import short_path
from deeptune.show.console import console, safe, say, say_json

if TYPE_CHECKING:
    from deeptune.runs import RunDirectory, RunState
    from deeptune.runs.events import Event

LOOK = 0.25  # seconds between looks at a run
TAIL = 20  # lines of console.log after a crash


def runs(
    root: RootOption = Path("runs"),
    only: Annotated[
        str,
        typer.Option(
            "--filter", metavar="WORDS", help="Only some runs: words, tag:NAME, state:failed, 'accuracy>0.8'."
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the runs, the newest first."""
    from deeptune.runs import run_state, runs_in
    from deeptune.runs.notes import read_notes
    from deeptune.show.filters import describe, make_filter

    wanted = make_filter(only)
    found = [(run, run_state(run)) for run in runs_in(root)]
    some = bool(found)
    found = [(run, state) for run, state in found if wanted(describe(run, state, read_notes(run)))]
    if as_json:
        say_json([facts(run, state) for run, state in found], indent=2)
        return
    if not found and some:
        say(f"no run in {short_path(root)} is {only!r}")
        return
    if not found:
        say(f"there are no runs in {short_path(root)}: start one with `deeptune run quickstart`")
        return
    from rich.table import Table
    from rich.text import Text

    from deeptune.formatting import ago
    from deeptune.runs.state import SYMBOLS
    from deeptune.show.run_text import STYLES, best_text, progress_text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("run", "state", "progress", "best", "age"):
        table.add_column(name, overflow="fold", justify="right" if name == "age" else "left", no_wrap=name == "age")
    for run, state in found:
        word = Text(f"{SYMBOLS[state.word]} {state.word}", style=STYLES.get(state.word, ""))
        notes = read_notes(run)
        name = " ".join([f"{run.id} ({notes.name})" if notes.name else run.id, *(f"#{tag}" for tag in notes.tags)])
        cells = (safe(name), word, safe(progress_text(state)), safe(best_text(state)), ago(time.time() - run.started))
        table.add_row(*cells)
    console().print(table)


def facts(run: RunDirectory, state: RunState) -> dict[str, Any]:
    """Describe a run for scripts, without reading its event log."""
    from deeptune.runs.files import finite
    from deeptune.runs.lock import lock_owner
    from deeptune.runs.notes import read_notes
    from deeptune.show.run_text import best_of

    owner, notes = lock_owner(run), read_notes(run)
    return finite(
        {
            "run": str(run.path),
            "id": run.id,
            "notes": {"name": notes.name, "note": notes.note, "tags": list(notes.tags)},
            "state": state.word,
            "detail": state.detail,
            "alive": state.alive,
            "over": state.over,
            "resumable": state.resumable,
            "began": run.started,
            "best": best_of(state),
            "test": test if isinstance(test := state.result.get("test"), dict) else {},
            "process": owner.to_json() if owner else None,
            "status": state.status,
        }
    )


def status(
    run: RunArgument,
    root: RootOption = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Show what a run is doing."""
    from deeptune.runs import run_state

    directory = named_run(run, root)
    state = run_state(directory)
    if as_json:
        say_json(facts(directory, state), indent=2)
        return
    for name, value in _status_lines(directory, state):
        say(f"{name:13} {value}")


def _status_lines(run: RunDirectory, state: RunState) -> Iterator[tuple[str, str]]:
    from deeptune.formatting import ago, duration
    from deeptune.report.tables import value_text
    from deeptune.runs.lock import lock_owner
    from deeptune.runs.state import SYMBOLS, last_words
    from deeptune.show.run_text import best_text, progress_text
    from deeptune.show.view import PHASE_WORDS

    now, known, owner = time.time(), state.status, lock_owner(run)
    yield "run", run.id
    yield "state", f"{SYMBOLS[state.word]} {state.word}" + (f": {state.detail}" if state.detail else "")
    if state.word == "crashed" and (last := last_words(run)):
        yield "last words", last
    if not state.over and (phase := known.get("phase")):
        yield "phase", PHASE_WORDS.get(phase, phase)
    if progress := progress_text(state):
        step, steps = known.get("step"), known.get("steps")
        yield "progress", progress + (f", step {step:,} of {steps:,}" if step is not None and steps else "")
    if known.get("loss") is not None:
        yield "loss", value_text("loss", known["loss"])
    if best := best_text(state):
        yield "best", best
    if not state.over and known.get("phase") == "train" and known.get("eta") is not None:
        yield "time left", f"at most {duration(known['eta'])}"
    if known.get("heartbeat"):
        yield "sign of life", f"{ago(now - known['heartbeat'])} ago"
    if owner:
        yield "process", f"{owner.pid} on {owner.host}"
    if stored := known.get("checkpoint"):
        yield "checkpoint", f"step {stored['step']:,}, {ago(now - (stored['at'] or now))} ago"
    for name, path in (("report", run.report), ("log", run.events), ("console", run.console), ("all files", run.path)):
        if path.exists():
            yield name, short_path(path)
    yield "next", _next(run, state)


def _next(run: RunDirectory, state: RunState) -> str:
    if state.word == "done":
        return f"deeptune evaluate {run.reference} --data LABELLED.parquet"
    if state.resumable:
        return f"deeptune resume {run.reference}"
    return f"deeptune attach {run.reference}"


def attach(run: RunArgument, root: RootOption = Path("runs"), plain: PlainOption = False) -> None:
    """Watch a run from its beginning. Leaving the view does not affect the run."""
    from deeptune.cli.summary import print_summary
    from deeptune.cli.watch import signals, tell_it_goes_on, watch
    from deeptune.runs.state import ending

    directory = named_run(run, root)
    with signals() as interrupts:
        state = watch(directory, console(), interrupts, plain=plain, stops=False)
    if state is None:
        tell_it_goes_on(directory)
    elif (error := ending(directory, state)) is not None:
        raise error
    else:
        print_summary(directory)


def logs(
    run: RunArgument,
    root: RootOption = Path("runs"),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log until the run is over.")] = False,
    of_console: Annotated[
        bool, typer.Option("--console", help="Print the output of libraries (console.log) instead of the event log.")
    ] = False,
) -> None:
    """Print a run's log."""
    from deeptune.runs import run_state

    directory = named_run(run, root)
    lines = _console_lines(directory) if of_console else _event_lines(directory)
    while True:
        state = run_state(directory)  # before the last reading
        for line in lines():
            say(line)
        if not follow or state.over:
            break
        time.sleep(LOOK)
    if state.word == "crashed" and not of_console and directory.console.exists():
        tail = list(_console_lines(directory)())[-TAIL:]
        say(f"\nThe end of {short_path(directory.console)}:" if tail else "")
        for line in tail:
            say(line)


def _event_lines(run: RunDirectory) -> Callable[[], Iterator[str]]:
    from deeptune.runs.event_log import EventReader
    from deeptune.show.view import View
    from deeptune.show.viewer import plain_line

    view, reader = View(run), EventReader(run.events)
    reported = 0

    def lines() -> Iterator[str]:
        nonlocal reported
        for event in reader.poll():
            view.take(event)
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t))
            yield plain_line(view, event, stamp="%Y-%m-%d %H:%M:%S") or f"{stamp} {_rest(event)}"
        if reader.broken > reported:
            yield f"({reader.broken - reported:,} lines of {short_path(run.events)} are damaged and were skipped)"
            reported = reader.broken

    return lines


def _rest(event: Event) -> str:
    """Format an event that has no line of its own, as its keys and values."""
    from deeptune.runs.events import EndEvent, StepEvent
    from deeptune.show.view import ending_text, step_text

    if isinstance(event, StepEvent):
        return step_text(event)
    if isinstance(event, EndEvent):
        return ending_text(event)
    return f"{event.to_json()['kind']} " + " ".join(
        f"{key}={value if isinstance(value, (str, int, float)) else json.dumps(value)}"
        for key, value in event.content().items()
    )


def _console_lines(run: RunDirectory) -> Callable[[], Iterator[str]]:
    """Return a function that reads the complete lines since its last call. A carriage return ends a line too."""
    from deeptune.runs import run_state

    place = 0

    def lines() -> Iterator[str]:
        nonlocal place
        try:
            with run.console.open("rb") as file:
                file.seek(place)
                over = run_state(run).over
                for line in file:
                    if not line.endswith(b"\n") and not over:  # the rest is still to be written
                        line = line[: line.rfind(b"\r") + 1]
                    place += len(line)
                    if not line:
                        break
                    text = line.decode("utf-8", "replace").rstrip("\r\n").expandtabs()
                    yield from (part for part in text.split("\r") if part) if "\r" in text else (text,)
        except FileNotFoundError:
            return

    return lines
