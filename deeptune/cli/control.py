"""`deeptune stop` and `resume`: end a run, and continue one that ended early."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeptune.cli.apply import RootOption, RunArgument
from deeptune.cli.run import DetachOption, ForegroundOption, JsonOption, PlainOption, check_exclusive, run_and_report
from deeptune.cli.run_argument import named_run
from deeptune.environment import short_path
from deeptune.errors import CheckpointError
from deeptune.show.console import fail, say, say_json

if TYPE_CHECKING:
    import psutil

    from deeptune.runs import RunDirectory, RunState

LOOK = 0.25  # seconds between looks at a run


def stop(
    run: RunArgument,
    root: RootOption = Path("runs"),
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Time to wait before the request is escalated.")
    ] = 60.0,
) -> None:
    """Stop a run at its next step, with a checkpoint to resume from.

    A runner that does not answer receives SIGTERM, and is finally killed with all its processes.
    """
    from deeptune.runs import run_state
    from deeptune.runs.control import request_stop
    from deeptune.runs.state import ending

    directory = named_run(run, root)
    state = _begun(directory)
    if state.over:
        if state.word in ("done", "stopped"):
            say(f"nothing to stop: {state.detail or f'the run is {state.word}'}")
            return
        error = ending(directory, state)
        assert error is not None
        raise error
    try:
        request_stop(directory, "by `deeptune stop`")
        state = _stopped(directory, grace)
    except KeyboardInterrupt:
        say(f"the request stands; watch the run with: deeptune attach {directory.reference}", stderr=True)
        raise typer.Exit(130) from None
    if not state.over:
        return  # on another machine, where nothing more can be done from here
    if state.word == "failed" and (error := ending(directory, state)) is not None:
        raise error
    say(_what_was_kept(directory, run_state(directory)))


def _begun(run: RunDirectory) -> RunState:
    """Wait until the runner is up, as it takes no request before. Returns the state of the run."""
    from deeptune.runs import run_state

    while (state := run_state(run)).word == "starting" and not state.alive:
        time.sleep(LOOK)
    return state


def _stopped(run: RunDirectory, grace: float) -> RunState:
    """Wait for a run to stop, and escalate each time that `grace` seconds pass."""
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
    """Send SIGTERM to a runner, or SIGKILL to it and all its processes."""
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
        kept = f", the work after step {stored['step']:,} is lost" if stored else ", no checkpoint was written before"
    return f"{word}{where}{kept}; resume with: deeptune resume {run.reference}"


def resume(
    run: RunArgument,
    root: RootOption = Path("runs"),
    force: Annotated[
        bool,
        typer.Option("--force", help="Resume even if spec, data or backbone changed, or the runner can't be seen."),
    ] = False,
    detach: DetachOption = False,
    foreground: ForegroundOption = False,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """Resume a run from its last checkpoint.

    The run may have been stopped, or have failed or crashed. It continues in the same directory and ends with the same
    result as an uninterrupted run.
    """
    from deeptune.runs import run_state
    from deeptune.runs.lock import in_progress
    from deeptune.spec import load_spec

    check_exclusive(detach, foreground)
    directory = named_run(run, root)
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
            hint="Check it there. If it is certainly dead, resume it here with --force.",
        )
    load_spec(directory.spec)  # one that was edited wrongly is known before a process is started
    run_and_report(directory, force=force, detach=detach, foreground=foreground, plain=plain, as_json=as_json)


def _complete(run: RunDirectory) -> None:
    """Write the report of a finished run if it is missing. Nothing else is left to resume."""
    from deeptune.report import write_report

    if run.report.exists():
        say(f"nothing to do: the run is done; its report is {short_path(run.report)}", stderr=True)
        return
    write_report(run.path)
    say(f"the run is done; its report was missing and is now {short_path(run.report)}", stderr=True)
