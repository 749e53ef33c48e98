"""The memory that this process may take: that of the machine, or less in a container or a Slurm job.

The kernel ends a process that takes more than its control group may have, however much the machine has free.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil


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
    """Yield the limit, and what is free of it, of each control group of this process that has one (Linux)."""
    with suppress(OSError, UnicodeDecodeError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if not controllers:
                mounts, files = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"], _V2
            elif "memory" in controllers.split(","):
                mounts, files = [root / "sys/fs/cgroup/memory"], _V1
            else:
                continue
            # The limit of a parent counts too. In a container the path may be the host's: then the mount is the group.
            place = PurePosixPath(path.lstrip("/"))
            for mount in mounts:
                for folder in (mount / place, *(mount / parent for parent in place.parents if parent != place)):
                    if (found := _group(folder, files)) is not None:
                        yield found


def _group(folder: Path, files: _Files) -> tuple[int, int] | None:
    """Return the limit of a group and what is free of it; None where it has none. Copies of files make room."""
    try:
        limit, used = (int((folder / name).read_text()) for name in (files.limit, files.used))
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        copies = sum(int(line[1]) for line in lines if line[0] in files.copies)
    except (OSError, ValueError, IndexError):  # no such group, or `max`
        return None
    return limit, max(0, min(limit, limit - used + copies))
