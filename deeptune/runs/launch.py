"""Start the process that does a run, so that it outlives the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deeptune.environment import module_command
from deeptune.errors import CheckpointError
from deeptune.runs.directory import RunDirectory, new_run_directory
from deeptune.runs.files import storage_errors, write_text
from deeptune.runs.lock import in_progress, runner_alive
from deeptune.runs.status import read_status
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.defaults import absolute, run_name

PATIENCE = 60.0  # seconds for a Python to start on a busy machine


def make_run(spec: RunSpec, root: Path) -> RunDirectory:
    """Make a run directory in `root` with the spec in it, ready for a runner.

    Raises WeightsError for an unknown backbone, before anything is made, and CheckpointError.
    """
    whole = absolute(spec)
    run = new_run_directory(root, run_name(spec))
    write_text(run.spec, dump_spec(whole))
    return run


def start_runner(
    run: RunDirectory, *, force: bool = False, asked: Sequence[str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a runner for `run`, which has its spec, and return once it works.

    `asked` is recorded as the command that the person typed; by default it is that of this process.

    The runner leads a session of its own and has no pipe to another process, so no hang-up, closed terminal or lost
    reader can end it. Raises CheckpointError if it does not start, or another runner does this run.
    """
    if runner_alive(run):
        raise in_progress(run)
    recorded = ["--", *(["deeptune", *sys.argv[1:]] if asked is None else asked)]
    command = module_command("deeptune.engine.runner", str(run.path), *(["--force"] if force else []), *recorded)
    earlier = read_status(run.status)
    with storage_errors(run.console):
        log = os.open(run.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        before = os.fstat(log).st_size
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True
        )
    finally:
        os.close(log)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        over = process.poll() is not None  # before the look at what it wrote
        if (status := read_status(run.status)) != earlier and status.get("pid") == process.pid:
            return process
        if over:
            raise CheckpointError(
                f"the runner ended at once with exit code {process.returncode}: {_failure(run, before)}",
                hint=f"Its output is in {run.console}.",
            )
        time.sleep(0.02)
    raise CheckpointError(
        f"the runner (process {process.pid}) has not begun within {PATIENCE:.0f} s",
        hint=f"It still may: watch it with `deeptune attach {run.reference}`. Its output is in {run.console}.",
    )


def _failure(run: RunDirectory, before: int) -> str:
    """Return the error of a runner that did not start, whole, or the last line of its traceback."""
    try:
        lines = run.console.read_bytes()[before:].decode("utf-8", "replace").strip().split("\n")
    except OSError:
        lines = [""]
    return "\n".join(lines if len(lines) <= 5 else lines[-1:]) or "it printed nothing"
