"""The lines of console.log: its end, and earlier lines on request."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deeptune.formatting import safe
from tui.widgets.monitor.log import Line

MIN_TAIL = 2**18  # bytes that are read at first
MORE = 4  # times as many bytes are read at each wish for earlier lines
BLOCK = 2**20  # bytes that are read at once


@dataclass(frozen=True)
class Printed:
    """The last lines of console.log, and how many it has; blank lines are left out of both."""

    lines: list[Line]
    total: int
    read: bool = True  # False until the first look at the file has come back

    @property
    def partial(self) -> bool:
        return len(self.lines) < self.total


class ConsoleReader:
    """Reads a growing console.log. It counts every byte once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tail = MIN_TAIL
        self._counted = self._total = 0  # bytes up to the end of a line, and the lines in them

    def read_earlier(self) -> None:
        """Read more of the file from the next call on."""
        self._tail *= MORE

    def read(self) -> Printed:
        """Read the lines. Of a progress bar that was redrawn in place only the last state counts."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                start = max(0, size - self._tail)
                file.seek(start)
                text = file.read(size - start)
                if start:  # the line that is cut
                    text = text.partition(b"\n")[2]
                lines = [line.decode("utf-8", "replace") for line in text.split(b"\n") if line.strip()]
                return Printed([_line(line) for line in lines], self._count(file, size) if start else len(lines))
        except OSError:
            return Printed([], 0)

    def _count(self, file, size: int) -> int:  # type: ignore[no-untyped-def]
        """Count the lines of the file that are not blank."""
        if size < self._counted:  # another file
            self._counted = self._total = 0
        file.seek(self._counted)
        rest = b""
        while block := file.read(min(BLOCK, size - self._counted - len(rest))):
            *whole, rest = (rest + block).split(b"\n")
            self._total += sum(1 for line in whole if line.strip())
            self._counted += sum(map(len, whole)) + len(whole)
        return self._total + bool(rest.strip())


def _line(text: str) -> Line:
    return Line("console", safe(text.rstrip("\r").rpartition("\r")[2].expandtabs(4)))
