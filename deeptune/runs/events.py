"""The event log: one JSON object a line, appended by one writer, readable at any moment by anyone."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeptune.runs.files import storage_errors, sync

VERSION = 1


class EventWriter:
    """Appends events to `events.jsonl`, one `os.write` per line, so that lines never interleave.

    `kind` is the event's word; the other keys are its content. Non-finite numbers become null. A log that
    exists is continued: after its last number, and on a line of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._sequence = max((event["seq"] for event in read_events(path)), default=0)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")  # the last writer died in the middle of a line

    def write(self, kind: str, **content: Any) -> None:
        self._sequence += 1
        record = {"v": VERSION, "seq": self._sequence, "t": round(time.time(), 3), "kind": kind, **content}
        line = json.dumps(_finite(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
        with storage_errors(self.path):
            os.write(self._file, line.encode("utf-8", "backslashreplace"))

    def warning(self, message: str) -> None:
        self.write("warning", message=message)

    def close(self) -> None:
        if self._file >= 0:
            with storage_errors(self.path):
                sync(self.path)
            os.close(self._file)
            self._file = -1


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


class EventReader:
    """Reads an event log that may still be growing; each call of `poll` yields what is new.

    A line without its end is left for the next poll; a line that is no JSON object is counted in
    `broken` and passed over; a sequence number seen before is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken = 0
        self._offset = 0
        self._last = 0

    def poll(self) -> Iterator[dict[str, Any]]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                block = file.read()
        except FileNotFoundError:
            return
        end = block.rfind(b"\n") + 1
        self._offset += end
        for line in block[:end].splitlines():
            try:
                event = json.loads(line.decode("utf-8", "replace"))
                sequence = int(event["seq"])
                event["kind"], event["t"]
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                self.broken += 1
                continue
            if sequence > self._last:
                self._last = sequence
                yield event


def read_events(path: Path) -> list[dict[str, Any]]:
    """Every readable event of a log, in order."""
    return list(EventReader(path).poll())
