"""The state of a run: exact on the machine that runs it, a marked guess elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass, field
from typing import Any

from deeptune.errors import CheckpointError, DeepTuneError, RunCrashed, RunStopped, error_from
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import read_json
from deeptune.runs.lock import lock_owner, runner_alive
from deeptune.runs.process import ProcessIdentity
from deeptune.runs.status import read_status

STARTING = 30.0  # seconds that a runner may take until it holds the lock
_PYTHON_ERROR = re.compile(r"[\w.]*(Error|Exception)(:|$)")  # the last line of a traceback
FRESH, LOST = 30.0, 600.0  # seconds since the last heartbeat, where that is all there is to go by

SYMBOLS = {
    "starting": "○", "running": "●", "stopping": "◐", "paused": "◌", "done": "✓", "stopped": "■", "failed": "✗",
    "crashed": "✗", "deleted": "✗", "stale": "?", "presumed dead": "?",
}  # fmt: skip


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    `word` is a key of SYMBOLS. `detail` is one sentence about it, or empty. `alive` is None where it can only be
    guessed. `status` and `result` are the contents of those files, empty where there are none.
    """

    word: str
    detail: str = ""
    alive: bool | None = False
    status: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing more happens unless somebody resumes the run."""
        return self.word in ("done", "failed", "stopped", "crashed", "deleted", "presumed dead")

    @property
    def resumable(self) -> bool:
        return self.word in ("failed", "stopped", "crashed", "presumed dead")


def run_state(run: RunDirectory) -> RunState:
    """Read the current state of a run."""
    if not run.path.is_dir():
        return RunState("deleted", "its folder is gone")
    alive = runner_alive(run)  # first: a runner writes its result before it lets go of the lock
    status, result, owner = read_status(run.status), _result(run), lock_owner(run)
    age = time.time() - (status.get("heartbeat") or run.started)
    if alive:
        if owner is not None and status.get("pid") != owner.pid:
            return RunState("starting", "", True)  # what is there is of the attempt before
        return RunState(*_word_while_alive(run, status, age), True, status, result)
    if result.get("state") in ("done", "failed", "stopped"):
        return RunState(result["state"], str(result.get("message") or ""), False, status, result)
    if alive is None:
        return RunState(*_guess(owner, status, age), None, status, result)
    if not run.lock.exists() and abs(age) < STARTING:
        return RunState("starting", "", None, status, result)
    return RunState("crashed", _why_it_crashed(run), False, status, result)


def _word_while_alive(run: RunDirectory, status: dict[str, Any], age: float) -> tuple[str, str]:
    word = status.get("state")
    # One that has said how it ended is not over before it has let go.
    word = word if word in ("running", "stopping", "paused") else "running"
    if age > FRESH:
        if _full(run):
            return "paused", "the disk is full: the run waits for room"
        return word, f"no sign of life for {age:.0f} s: it may be suspended, or wait for a disk"
    return word, str(status.get("message") or "") if word == "paused" else ""


def _guess(owner: ProcessIdentity | None, status: dict[str, Any], age: float) -> tuple[str, str]:
    """Guess the state from the heartbeat, which compares the clocks of two machines."""
    where = f"on {owner.host}" if owner else "on another machine"
    if age < -FRESH:
        return "stale", f"its last sign of life can't be dated: the clock {where} is {-age:.0f} s ahead of this one"
    word = status.get("state")
    word = word if word in ("running", "stopping", "paused") else "running"
    word = word if age < FRESH else "stale" if age < LOST else "presumed dead"
    return word, f"last sign of life {where} {max(0.0, age):.0f} s ago"


def ending(run: RunDirectory, state: RunState) -> DeepTuneError | None:
    """Return the error to raise for a run that ended without success; None for one that is done."""
    if state.word == "done":
        return None
    resume = f"Resume with: deeptune resume {run.reference}"
    if state.word == "stopped":
        return RunStopped(state.detail or "the run was stopped", hint=resume)
    if state.word == "failed":
        error = state.result.get("error")
        if not isinstance(error, dict):
            defect = f"This is a defect of DeepTune: please report it, with the end of {run.console}"
            return DeepTuneError(state.detail or "the run failed", hint=defect)
        hints = [error.get("hint"), f"Then: deeptune resume {run.reference}" if run.last.exists() else None]
        message = str(error.get("message") or state.detail)
        return error_from(str(error.get("title")), message, "\n".join(str(hint) for hint in hints if hint) or None)
    if state.word == "deleted":
        return RunCrashed(state.detail)
    last = last_words(run)
    guess = "" if state.word == "crashed" else f"{state.word}, "
    return RunCrashed(guess + state.detail + (f"\nIts last output: {last}" if last else ""), hint=resume)


def last_words(run: RunDirectory) -> str:
    """Return the last line of console.log, such as the end of a traceback or the message of a library that crashed.

    What an attempt before has written says nothing of the last one, which takes the lock as it begins.
    """
    try:
        if run.lock.exists() and run.console.stat().st_mtime < run.lock.stat().st_mtime:
            return ""
        with run.console.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _result(run: RunDirectory) -> dict[str, Any]:
    try:
        result = read_json(run.result)
    except CheckpointError:
        return {}
    return result if isinstance(result, dict) else {}


def _why_it_crashed(run: RunDirectory) -> str:
    owner = lock_owner(run)
    if owner is None:
        return "the runner never started"
    if not owner.same_boot:
        return f"{ProcessIdentity.here().host} was restarted while it ran"
    try:
        if os.statvfs(run.path).f_flag & os.ST_RDONLY:
            return "the file system of its folder became read-only"
    except OSError:
        pass
    if _full(run):
        return "it ended without a message while the disk was full"
    if _PYTHON_ERROR.match(last_words(run)):  # such as of an import, before anything can record it
        return f"process {owner.pid} ended with an error that it could not record"
    return f"process {owner.pid} was killed (by hand or out of memory)"


def _full(run: RunDirectory) -> bool:
    try:
        return shutil.disk_usage(run.path).free < 2**20
    except OSError:
        return False
