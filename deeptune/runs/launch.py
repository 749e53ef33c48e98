"""Start the process that does a run, so that it outlives whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from deeptune.errors import CheckpointError
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import storage_errors
from deeptune.runs.state import ending, last_words, run_state
from deeptune.runs.status import read_status

PATIENCE = 60.0  # seconds for a Python to start on a busy machine


def start_runner(run: RunDirectory, *, force: bool = False) -> subprocess.Popen[bytes]:
    """Start a runner for `run`, which has its spec, and return when it is at work.

    It is the leader of a session of its own and has no pipe to anyone: no hang-up, no closed terminal and no reader
    that went away can reach it. Raises what the runner recorded when it ended at once.
    """
    command = [sys.executable, "-m", "deeptune.engine.runner", str(run.path), *(["--force"] if force else [])]
    with storage_errors(run.console):
        log = os.open(run.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True
        )
    finally:
        os.close(log)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if read_status(run.status).get("pid") == process.pid:
            return process
        if process.poll() is not None:
            state = run_state(run)
            if (error := ending(run, state)) is not None and state.word != "crashed":
                raise error
            if state.word == "done":
                return process
            raise CheckpointError(
                f"the runner ended at once with exit code {process.returncode}: {last_words(run) or 'it said nothing'}",
                hint=f"All that it said is in {run.console}.",
            )
        time.sleep(0.02)
    raise CheckpointError(
        f"the runner (process {process.pid}) has not begun within {PATIENCE:.0f} s",
        hint=f"It may still: `deeptune attach {run.id}` shows it. What it says is in {run.console}.",
    )
