"""Identities of processes that are never reused."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_TOLERANCE = 1.0  # seconds: the kernel counts in ticks


@dataclass(frozen=True)
class ProcessIdentity:
    """A process by its pid, its start time and the boot of its machine, as pids and start times are reused."""

    pid: int
    process_started: float  # seconds since that boot, which no change of the clock moves; since 1970 without /proc
    boot_id: str
    host: str

    @classmethod
    def here(cls) -> ProcessIdentity:
        return cls(os.getpid(), _started(os.getpid()), boot_id(), socket.gethostname())

    @classmethod
    def from_json(cls, value: Any) -> ProcessIdentity | None:
        try:
            return cls(int(value["pid"]), float(value["process_started"]), str(value["boot_id"]), str(value["host"]))
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def same_boot(self) -> bool:
        """Check whether the process belongs to the kernel that runs now, so that locks and pids are exact."""
        return self.boot_id == boot_id()

    def process(self) -> psutil.Process | None:
        """Return the process if it still lives, else None."""
        if not self.same_boot:
            return None
        try:
            process = psutil.Process(self.pid)
            if abs(_started(self.pid) - self.process_started) > _START_TOLERANCE:
                return None  # the number went to another process
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.Error:
            return None


def _started(pid: int) -> float:
    try:
        # The name, in parentheses, may hold anything: the fields are counted from its end (proc_pid_stat(5)).
        ticks = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]
        return int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return psutil.Process(pid).create_time()


def boot_id() -> str:
    """Return the id of this machine's boot. Containers on one machine share it."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return f"{socket.gethostname()}-{int(psutil.boot_time())}"
