"""The control groups of this process (Linux): they limit what a container or a Slurm job takes of its machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Group:
    """A control group: the folder of its files, and the version (1 or 2) that decides their names."""

    folder: Path
    version: int


def groups(controller: str, root: Path = Path("/")) -> Iterator[Group]:
    """Yield the groups of this process that `controller` ("memory", "cpu") may limit; the limit of a parent counts too.

    Some of the folders may not exist.
    """
    with suppress(OSError, UnicodeDecodeError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if not controllers:
                mounts, version = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"], 2
            elif controller in controllers.split(","):
                mounts, version = [root / "sys/fs/cgroup" / controller], 1
            else:
                continue
            # In a container the path may be the host's: then the mount is the group.
            place = PurePosixPath(path.lstrip("/"))
            for mount in mounts:
                for folder in (mount / place, *(mount / parent for parent in place.parents if parent != place)):
                    yield Group(folder, version)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many cores' time this process may take, as `docker run --cpus` sets it; None for no limit."""
    return min((quota for group in groups("cpu", root) if (quota := _quota(group)) is not None), default=None)


def _quota(group: Group) -> float | None:
    try:
        if group.version == 2:
            quota, period = (group.folder / "cpu.max").read_text().split()
        else:
            quota, period = ((group.folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        found = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or `max`
        return None
    return found if found > 0 else None  # -1 means no limit
