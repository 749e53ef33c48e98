"""The lines of the table: a registry that the modules of this package add to, and how the table is drawn."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """`quick` does few steps, to see that everything works; `device` is where models are."""

    quick: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Measured:
    """A ratio, and in a few words what it was made from."""

    ratio: float
    how: str


class NotMeasured(Exception):
    """The reason why a line has no number on this machine: a package or a device is missing."""


@dataclass(frozen=True)
class Line:
    """One claim: `ratio` against `target`, where more is better or less is."""

    name: str
    what: str
    target: float | None  # None: a number to know, without a claim
    at_least: bool
    measure: Callable[[Settings], Measured]
    percent: bool = False

    def met(self, ratio: float) -> bool:
        if self.target is None:
            return True
        return ratio >= self.target if self.at_least else ratio <= self.target

    @property
    def goal(self) -> str:
        if self.target is None:
            return "–"
        return f"{'≥' if self.at_least else '≤'} {self.shown(self.target)}"

    def shown(self, value: float) -> str:
        """Format `0.042` as `4.2%` or `0.04`, `31.2` as `31`."""
        if self.percent:
            return f"{100 * value:.3g}%"
        return f"{value:.2f}" if value < 10 else f"{value:.0f}"


LINES: dict[str, Line] = {}


def line(
    name: str, what: str, *, at_least: float | None = None, at_most: float | None = None, percent: bool = False
) -> Callable[[Callable[[Settings], Measured]], Callable[[Settings], Measured]]:
    """Add the decorated function to the table. One of `at_least` and `at_most` is the target, if there is one."""
    target = at_least if at_least is not None else at_most
    if at_least is not None and at_most is not None:
        raise ValueError(f"{name}: one target at most")
    if name in LINES:
        raise ValueError(f"{name}: there is such a line already")

    def add(measure: Callable[[Settings], Measured]) -> Callable[[Settings], Measured]:
        LINES[name] = Line(name, what, target, at_least is not None, measure, percent)
        return measure

    return add


def table(results: Iterable[tuple[Line, Measured | NotMeasured]]) -> str:
    """Return the results as a Markdown table."""
    rows = [("line", "what", "measured", "target", "met", "from")]
    for one, found in results:
        if isinstance(found, NotMeasured):
            rows.append((one.name, one.what, "–", one.goal, "–", f"not measured: {found}"))
        else:
            met = "–" if one.target is None else "yes" if one.met(found.ratio) else "no"
            rows.append((one.name, one.what, one.shown(found.ratio), one.goal, met, found.how))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(drawn)


def machine(device: str = "cpu") -> str:
    """Return the machine in a line: processor, cores that this process may use, threads that compute, versions, GPU."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [
        _processor(),
        f"{cores} cores",
        f"{torch.get_num_threads()} threads",
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
    ]
    if device.startswith("cuda"):
        parts.append(torch.cuda.get_device_name(device))
    return ", ".join(parts)


@contextmanager
def fastest_kernels() -> Iterator[None]:
    """Let cuDNN take the kernels that it finds fastest, whatever DeepTune asked of it for the run beside.

    Arithmetic stays as it is: where fp32 is float32 for one side it is so for the other.
    """
    import torch

    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=cudnn.allow_tf32):
        yield


def synchronise() -> None:
    """Wait until a GPU, if one is in use, has done what it was given."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)):
        return found[1].strip()
    return platform.processor() or platform.machine()
