"""Finds out how many worker processes have room: each passes its batches through shared memory, in open files.

Containers give little of either (Docker's /dev/shm is 64 MB). A process that runs out of them cannot say so, and its
loader would wait for ever; so the room is measured first, and a batch is moved before it is passed on.
"""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeptune.data.loading.dataset import Batch

SHARED_MEMORY = "/dev/shm"
SHARED_MEMORY_SHARE = 0.8  # largest share of free shared memory for batches
LOADERS = 2  # loaders with processes at the same time: of the training and of the val split
BATCHES_AHEAD = 2  # batches that each process makes ahead, by torch's default
FILES_OF_A_WORKER = 8  # open files of a worker: pipes and locks
FILES_OF_A_BATCH = 3  # open files of a batch: images, targets, rows
SPARE_FILES = 32  # open files for all else that a run opens
MAX_OPEN_FILES = 65_536  # open files that are asked for, at most
MAX_TEMPORARY_PATH = 60  # characters: a socket below it has a name of at most 108


@dataclass(frozen=True)
class NoRoom:
    """The reason why a process cannot pass a batch on."""

    reason: str


def workers_that_fit(workers: int, *, batch_bytes: int) -> tuple[int, str | None]:
    """Count the processes that have room for their batches; returns also a sentence if these are not all."""
    if not workers:
        return 0, None
    if len(tempfile.gettempdir()) > MAX_TEMPORARY_PATH:
        return 0, _sentence(
            workers, 0, f"the folder for temporary files has a long path, {tempfile.gettempdir()}", "TMPDIR"
        )
    in_memory, free = _fit_in_shared_memory(workers, batch_bytes)
    in_files, limit = _fit_in_open_files(workers)
    if in_memory < workers and in_memory <= in_files:
        reason = f"{SHARED_MEMORY} has {free / 1e6:,.1f} MB free and a batch takes {batch_bytes / 1e6:,.1f} MB"
        return in_memory, _sentence(workers, in_memory, reason, "the shared memory (`docker run --shm-size`)")
    if in_files < workers:
        return in_files, _sentence(workers, in_files, f"this process may open {limit:,} files", "`ulimit -n`")
    return workers, None


def batch_in_shared_memory(batch: Batch) -> Batch | NoRoom:
    """Move a batch's tensors to where other processes can read them.

    torch would do so in a thread of its own, where an error is lost.
    """
    tensors = [*batch.inputs.values(), batch.rows, *([] if batch.targets is None else [batch.targets])]
    try:
        for tensor in tensors:
            tensor.share_memory_()
    except (RuntimeError, OSError) as error:
        return NoRoom(cannot_pass(error) or f"the shared memory ({SHARED_MEMORY}) cannot be used ({error})")
    return batch


def cannot_pass(error: BaseException) -> str | None:
    """Return the reason why a batch cannot be passed on, if that is what an error says."""
    text = str(error)
    if (
        getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE)
        or "Too many open files" in text
        or "ancdata" in text
    ):
        return "too many files are open for processes that decode images (`ulimit -n`, train.workers)"
    if "shared memory" in text or "torch_shm" in text or "</torch_" in text:
        return f"the shared memory ({SHARED_MEMORY}) is full (`docker run --shm-size`, train.workers)"
    if "AF_UNIX path too long" in text:
        return "the path of the folder for temporary files is too long (TMPDIR)"
    return None


def _sentence(asked: int, fit: int, reason: str, remedy: str) -> str:
    instead = f"{fit:,} of {asked:,} processes decode images" if fit else "the main process decodes images"
    return f"{instead} (train.workers), because {reason}; more room: {remedy}"


def _fit_in_shared_memory(workers: int, batch_bytes: int) -> tuple[int, int]:
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:  # a system without it passes batches in another way
        return workers, 0
    free = found.f_bavail * found.f_frsize
    batches = int(SHARED_MEMORY_SHARE * free / max(batch_bytes, 1) / LOADERS)
    return min(workers, max(0, batches - 1) // BATCHES_AHEAD), free


def _fit_in_open_files(workers: int) -> tuple[int, int]:
    try:
        import resource

        opened = len(os.listdir("/proc/self/fd"))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError):
        return workers, 0
    each = LOADERS * (FILES_OF_A_WORKER + BATCHES_AHEAD * FILES_OF_A_BATCH)
    wanted = opened + SPARE_FILES + workers * each
    if 0 <= soft < wanted:
        try:
            soft = min(MAX_OPEN_FILES, hard if hard >= 0 else MAX_OPEN_FILES)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft < 0 or soft >= wanted:
        return workers, soft
    return max(0, soft - opened - SPARE_FILES) // each, soft
