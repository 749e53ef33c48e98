"""The memory that this process may take: that of the machine, or less in a container or a Slurm job.

The kernel ends a process that takes more than its control group may have, however much the machine has free.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from deeptune.control_groups import groups


@dataclass(frozen=True)
class Memory:
    """Bytes of memory: what there is in all, and what is free."""

    total: int
    free: int


@dataclass(frozen=True)
class _Files:
    """The names of a version of control groups: the limit, what is used, and what of it are copies of files."""

    limit: str
    used: str
    copies: tuple[str, str]


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
_V2 = _Files("memory.max", "memory.current", ("inactive_file", "active_file"))


def memory(root: Path = Path("/")) -> Memory:
    """Return the memory of this process: the least of what the machine and each of its control groups leave it."""
    machine = psutil.virtual_memory()
    groups = [(machine.total, machine.available), *_groups(root)]
    return Memory(min(total for total, _ in groups), min(free for _, free in groups))


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """Yield the limit, and what is free of it, of each control group of this process that has one."""
    for group in groups("memory", root):
        if (found := _limit(group.folder, _V2 if group.version == 2 else _V1)) is not None:
            yield found


def _limit(folder: Path, files: _Files) -> tuple[int, int] | None:
    """Return the limit of a group and what is free of it; None where it has none. Copies of files make room."""
    try:
        limit, used = (int((folder / name).read_text()) for name in (files.limit, files.used))
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        copies = sum(int(line[1]) for line in lines if line[0] in files.copies)
    except (OSError, ValueError, IndexError):  # no such group, or `max`
        return None
    return limit, max(0, min(limit, limit - used + copies))
