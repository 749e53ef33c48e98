"""Stop requests: a file in the run directory or a signal. Both set one flag that the runner checks."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import psutil

from deeptune.errors import CheckpointError, RunStopped
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import write_json
from deeptune.runs.lock import lock_owner, runner_alive
from deeptune.runs.process import ProcessIdentity


class StopFlag:
    """Holds whether the run should stop, and why. Setting it is one assignment, so a signal handler may do it."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def request(self, reason: str) -> None:
        self.reason = self.reason or reason

    def check(self) -> None:
        """Raise RunStopped if a stop was requested."""
        if self.reason is not None:
            raise RunStopped(f"the run was stopped ({self.reason})")


def request_stop(run: RunDirectory, who: str) -> None:
    """Ask the runner to stop at its next step. The runner removes the file to confirm the request.

    `who` says in the log who asked, as in "by `deeptune stop`".

    If the file can't be written, as on a full disk, the runner gets SIGTERM instead, which has the same effect. Raises
    CheckpointError if both fail.
    """
    process = ProcessIdentity.here().to_json()
    request: dict[str, Any] = {"requested": round(time.time(), 3), "who": who, "by": process}
    try:
        write_json(run.stop_request, request)
    except CheckpointError:
        owner = lock_owner(run)
        runner = owner.process() if owner is not None and runner_alive(run) else None
        if runner is None:
            raise
        with suppress(psutil.NoSuchProcess):
            runner.terminate()


def take_stop_request(run: RunDirectory) -> str | None:
    """Return who requested a stop since the last call, or None, and remove the request."""
    try:
        request = json.loads(run.stop_request.read_text(encoding="utf-8"))
        who = request["who"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        who = None  # written by another version, or by hand: it is a request all the same
    try:
        run.stop_request.unlink()
    except OSError:
        return None
    return who if isinstance(who, str) else f"by the file {run.stop_request.name}"
