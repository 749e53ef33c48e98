"""`deeptune runs`, `attach`, `status`, `logs`, `stop` and `resume`: runs that are there, and what to do with them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.cli.apply import RootOption, RunArgument
from deeptune.cli.run import DetachOption, ForegroundOption, JsonOption, PlainOption, check_ways, do
from deeptune.environment import short_path
from deeptune.errors import CheckpointError
from deeptune.show.console import console, fail, safe, say, say_json

if TYPE_CHECKING:
    import psutil

    from deeptune.runs import RunDirectory, RunState
    from deeptune.runs.events import Event

LOOK = 0.25  # seconds between looks at a run
TAIL = 20  # lines of console.log after a crash


# What there is.


def runs(
    root: RootOption = Path("runs"),
    only: Annotated[
        str, typer.Option("--filter", metavar="WORDS", help="Only some: words, tag:NAME, state:failed, 'accuracy>0.8'.")
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

    from deeptune.runs.state import SYMBOLS
    from deeptune.show.words import STYLES, ago, best_text, progress_text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("run", "state", "progress", "best", "age"):
        table.add_column(name, overflow="fold", justify="right" if name == "age" else "left", no_wrap=name == "age")
    for run, state in found:
        word = Text(f"{SYMBOLS[state.word]} {state.word}", style=STYLES.get(state.word, ""))
        notes = read_notes(run)
        name = " ".join([f"{run.id} ({notes.name})" if notes.name else run.id, *(f"#{tag}" for tag in notes.tags)])
        cells = (safe(name), word, safe(progress_text(state)), safe(best_text(state)), ago(time.time() - run.made))
        table.add_row(*cells)
    console().print(table)


def facts(run: RunDirectory, state: RunState) -> dict[str, Any]:
    """All that is known of a run without reading its log, for scripts."""
    from deeptune.runs.files import finite
    from deeptune.runs.lock import lock_owner
    from deeptune.runs.notes import read_notes
    from deeptune.show.words import best_of

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
            "began": run.made,
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
    """Say what a run is doing."""
    from deeptune.runs import find_run, run_state

    directory = find_run(run, root)
    state = run_state(directory)
    if as_json:
        say_json(facts(directory, state), indent=2)
        return
    for name, value in _status_lines(directory, state):
        say(f"{name:13} {value}")


def _status_lines(run: RunDirectory, state: RunState) -> Iterator[tuple[str, str]]:
    from deeptune.report.tables import value_text
    from deeptune.runs.lock import lock_owner
    from deeptune.runs.state import SYMBOLS, last_words
    from deeptune.show.view import PHASE_WORDS
    from deeptune.show.words import ago, best_text, duration, progress_text

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


# Looking on.


def attach(run: RunArgument, root: RootOption = Path("runs"), plain: PlainOption = False) -> None:
    """Watch a run, from its beginning; leaving it leaves it alone."""
    from deeptune.cli.summary import print_summary
    from deeptune.cli.watch import signals, tell_it_goes_on, watch
    from deeptune.runs import find_run
    from deeptune.runs.state import ending

    directory = find_run(run, root)
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
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
    of_console: Annotated[
        bool, typer.Option("--console", help="What libraries printed (console.log) instead of the event log.")
    ] = False,
) -> None:
    """Print a run's log."""
    from deeptune.runs import find_run, run_state

    directory = find_run(run, root)
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
    told = 0

    def lines() -> Iterator[str]:
        nonlocal told
        for event in reader.poll():
            view.take(event)
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t))
            yield plain_line(view, event, stamp="%Y-%m-%d %H:%M:%S") or f"{stamp} {_rest(event)}"
        if reader.broken > told:
            yield f"({reader.broken - told:,} lines of {short_path(run.events)} are damaged and were passed over)"
            told = reader.broken

    return lines


def _rest(event: Event) -> str:
    """An event that a viewer has no line for, as its keys and values."""
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
    """Its whole lines so far, then those that came since; a progress bar's returns begin new ones."""
    place = 0

    def lines() -> Iterator[str]:
        nonlocal place
        try:
            with run.console.open("rb") as file:
                file.seek(place)
                for line in file:
                    place += len(line)
                    text = line.decode("utf-8", "replace").rstrip("\r\n").expandtabs()
                    yield from (part for part in text.split("\r") if part) if "\r" in text else (text,)
        except FileNotFoundError:
            return

    return lines


# Doing something about it.


def stop(
    run: RunArgument,
    root: RootOption = Path("runs"),
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long each way of asking may take before the next.")
    ] = 60.0,
) -> None:
    """Stop a run at its next step, with a checkpoint to go on from.

    A runner that does not answer is sent SIGTERM and, at last, is killed with all its processes.
    """
    from deeptune.runs import find_run, run_state
    from deeptune.runs.control import request_stop
    from deeptune.runs.state import ending

    directory = find_run(run, root)
    state = _begun(directory)
    if state.over:
        if state.word in ("done", "stopped"):
            say(f"nothing to stop: {state.detail or f'the run is {state.word}'}")
            return
        error = ending(directory, state)
        assert error is not None
        raise error
    try:
        request_stop(directory)
        state = _stopped(directory, grace)
    except KeyboardInterrupt:
        say(f"the request stands: deeptune attach {directory.reference} shows what comes of it", stderr=True)
        raise typer.Exit(130) from None
    if not state.over:
        return  # on another machine, where nothing more can be done from here
    if state.word == "failed" and (error := ending(directory, state)) is not None:
        raise error
    say(_what_was_kept(directory, run_state(directory)))


def _begun(run: RunDirectory) -> RunState:
    """The state of a run once its runner is up: one that only starts takes no request."""
    from deeptune.runs import run_state

    while (state := run_state(run)).word == "starting" and not state.alive:
        time.sleep(LOOK)
    return state


def _stopped(run: RunDirectory, grace: float) -> RunState:
    """Wait for the end of a run that was asked to stop, and ask harder each time that `grace` seconds pass."""
    from deeptune.runs import run_state
    from deeptune.runs.lock import lock_owner

    say("asked the run to stop at its next step", stderr=True)
    state = _await(run, lambda state: state.over or state.word == "stopping" or not run.stop_request.exists(), grace)
    if not state.over and not run.stop_request.exists():
        say("the run has seen it and is stopping", stderr=True)
        state = _await(run, lambda state: state.over, grace)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if state.over:
            return state
        owner = lock_owner(run)
        process = owner.process() if owner else None  # each time: a number may have gone to another process
        if process is None:
            where = owner.host if owner else "another machine"
            say(
                f"it has not stopped within {grace:g} s. It runs on {where}, where no signal reaches it from here: the "
                f"request stands, and it stops when it sees it",
                stderr=True,
            )
            return run_state(run)
        say(f"it has not stopped within {grace:g} s: sending {number.name} to process {process.pid}", stderr=True)
        _send(process, number)
        state = _await(run, lambda state: state.over, max(grace, 5.0) if number == signal.SIGKILL else grace)
    return state


def _await(run: RunDirectory, enough: Callable[[RunState], bool], seconds: float) -> RunState:
    from deeptune.runs import run_state

    deadline = time.monotonic() + seconds
    while not enough(state := run_state(run)) and time.monotonic() < deadline:
        time.sleep(LOOK)
    return state


def _send(process: psutil.Process, number: signal.Signals) -> None:
    """SIGTERM to a runner, or SIGKILL to it and all its processes."""
    import os
    from contextlib import suppress

    import psutil

    try:
        if number != signal.SIGKILL:
            process.send_signal(number)
        elif os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:  # it was started in a group that is not its own, such as a shell's
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    one.kill()
    except (psutil.NoSuchProcess, ProcessLookupError):
        return
    except (psutil.AccessDenied, PermissionError):
        fail("cannot stop", f"process {process.pid} belongs to {process.username()}", "The request to stop stands.")
        raise typer.Exit(CheckpointError.exit_code) from None


def _what_was_kept(run: RunDirectory, state: RunState) -> str:
    if state.word == "done":
        return f"the run was done before it could stop: deeptune attach {run.reference}"
    step, steps, stored = (state.status.get(key) for key in ("step", "steps", "checkpoint"))
    word = "stopped" if state.word == "stopped" else "killed"
    where = f" at step {step:,} of {steps:,}" if step is not None and steps else " before training"
    kept = ""
    if word == "killed":
        kept = f", what came after step {stored['step']:,} is lost" if stored else ", nothing was stored before"
    return f"{word}{where}{kept}; go on with: deeptune resume {run.reference}"


def resume(
    run: RunArgument,
    root: RootOption = Path("runs"),
    force: Annotated[
        bool,
        typer.Option("--force", help="Go on though spec, data or backbone changed, or the runner can't be seen."),
    ] = False,
    detach: DetachOption = False,
    foreground: ForegroundOption = False,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """Go on with a run from its last checkpoint.

    It may have been stopped, or have failed or crashed. It goes on in the same directory and ends as if nothing had
    happened.
    """
    from deeptune.runs import find_run, run_state
    from deeptune.runs.lock import in_progress
    from deeptune.spec import load_spec

    check_ways(detach, foreground)
    directory = find_run(run, root)
    state = run_state(directory)
    if state.word == "done":
        _complete(directory)
        if as_json:
            say_json({"run": str(directory.path), "state": "done", "test": state.result.get("test") or {}})
        return
    if state.alive or state.word == "starting":
        raise in_progress(directory)
    if not state.resumable and not force:
        raise CheckpointError(
            f"the run {directory.id} may be in progress: {state.detail}",
            hint="Look after it there. If it is dead for certain, go on here with --force.",
        )
    load_spec(directory.spec)  # one that was edited wrongly is known before a process is started
    do(directory, force=force, detach=detach, foreground=foreground, plain=plain, as_json=as_json)


def _complete(run: RunDirectory) -> None:
    """A run that is done has nothing to go on with, but for a report that it did not come to write."""
    from deeptune.report import write_report

    if run.report.exists():
        say(f"nothing to do: the run is done; its report is {short_path(run.report)}", stderr=True)
        return
    write_report(run.path)
    say(f"the run is done; its report was missing and is now {short_path(run.report)}", stderr=True)
