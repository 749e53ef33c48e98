"""The files by which the kernel tells a process its control groups."""

from __future__ import annotations

from pathlib import Path


def belongs_to(root: Path, *lines: str) -> None:
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))
