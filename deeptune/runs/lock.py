"""run.lock: the runner holds it as long as it lives, so under one kernel "held" means exactly "alive"."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deeptune.errors import CheckpointError
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import storage_errors
from deeptune.runs.process import ProcessIdentity

PATIENCE = 2.0  # seconds: a viewer that looks whether it is held holds it for an instant
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_held: set[int] = set()


def _let_go_in_child() -> None:
    """Close inherited locks: a data worker is a fork and would hold them after its parent was killed."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


def open_lock(path: Path) -> int:
    """Open a file to lock it. An existing file need not be writable. Forks release the lock."""
    handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    _held.add(handle)
    return handle


def close_lock(handle: int) -> None:
    """Release a lock and close its file."""
    _held.discard(handle)
    os.close(handle)


@contextmanager
def run_lock(run: RunDirectory) -> Iterator[None]:
    """Hold the run's lock, with this process's identity in it. Raises CheckpointError if another runner holds it."""
    with storage_errors(run.lock):
        handle = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(run, handle)
        _held.add(handle)
        with storage_errors(run.lock):
            owner = (json.dumps(ProcessIdentity.here().to_json()) + "\n").encode()
            os.pwrite(handle, owner, 0)  # over what was there: a full disk still has that room
            os.ftruncate(handle, len(owner))
        yield
    finally:
        close_lock(handle)


def _take(run: RunDirectory, handle: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise in_progress(run) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            owner = lock_owner(run)  # a file system without locks: the process itself is all there is to look at
            if owner is not None and owner.process() is not None:
                raise in_progress(run) from None
            return


def in_progress(run: RunDirectory) -> CheckpointError:
    """Build the error that says why no second runner can do this run."""
    owner = lock_owner(run)
    who = f"process {owner.pid} on {owner.host}" if owner else "another process"
    return CheckpointError(
        f"the run {run.id} is in progress: {who} runs it",
        hint=f"Watch it with `deeptune attach {run.reference}`, or end it with `deeptune stop {run.reference}`.",
    )


def lock_owner(run: RunDirectory) -> ProcessIdentity | None:
    """Return the identity of the process that holds the lock, or held it last."""
    try:
        return ProcessIdentity.from_json(json.loads(run.lock.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def runner_alive(run: RunDirectory) -> bool | None:
    """Check whether a runner holds the lock; None if that is unknown here (another machine's kernel)."""
    owner = lock_owner(run)
    try:
        handle = os.open(run.lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return _process_lives(owner)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: viewers don't disturb one another
    except BlockingIOError:
        return True  # wherever it runs: some network file systems carry locks from machine to machine
    except OSError:
        return _process_lives(owner)
    finally:
        os.close(handle)
    return None if _elsewhere(owner) else False


def _process_lives(owner: ProcessIdentity | None) -> bool | None:
    """Check whether the process of the lock lives, where the lock itself can't be tested."""
    if _elsewhere(owner):
        return None
    return owner is not None and owner.process() is not None


def _elsewhere(owner: ProcessIdentity | None) -> bool:
    return owner is not None and not owner.same_boot and owner.host != ProcessIdentity.here().host
