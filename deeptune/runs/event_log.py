"""The event log: one JSON object a line, appended by one writer, readable at any moment by anyone."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeptune.runs.events import VERSION, Event, WarningEvent, event_from_json
from deeptune.runs.files import DISK_FULL, finite, storage_errors, sync

BATCH = 500  # lines that are read at once
MAX_PENDING = 1_000_000  # bytes kept while the disk is full


class EventWriter:
    """Appends events to `events.jsonl`, one `os.write` per line, so that lines never interleave.

    Numbers that are not finite become null. A log that exists is continued: after its last number, and on a line of its
    own. While the disk is full, lines wait in memory and are written when there is room. Any thread may write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._pending = bytearray()
        with storage_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            reader = EventReader(path)
            self.earlier = list(reader.poll())
            self._sequence = reader.last
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                self._pending += b"\n"  # the last writer died in the middle of a line

    def write(self, event: Event) -> None:
        """Append an event, with the next number and the time of now."""
        self.record(event.kind, **event.content())

    def record(self, kind: str, **content: Any) -> None:
        """Append an event of any kind and content."""
        with self._lock:
            if len(self._pending) > MAX_PENDING:
                return  # the disk has been full for long: what the run is and ends with is in other files
            self._sequence += 1
            record = {"v": VERSION, "seq": self._sequence, "t": round(time.time(), 3), "kind": kind, **content}
            line = json.dumps(finite(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
            self._pending += line.encode("utf-8", "backslashreplace")
            self._flush()

    def _flush(self) -> None:
        with storage_errors(self.path):
            try:
                while self._pending:
                    del self._pending[: os.write(self._file, self._pending)]
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise

    def warning(self, message: str) -> None:
        """Append a warning."""
        self.write(WarningEvent(message))

    def close(self) -> None:
        """Write what waits, and put the log on the disk."""
        with self._lock:
            if self._file >= 0:
                try:
                    self._flush()
                    with storage_errors(self.path):
                        sync(self.path)
                finally:
                    os.close(self._file)
                    self._file = -1


class EventReader:
    """Reads an event log that may still be growing; each call of `poll` yields what is new.

    A line without its end is left for the next poll. A line that is not an event, or not as its kind is, is counted in
    `broken` and passed over. So is, without a count, a number that was seen before, also when the file was cut and grew
    again. `last` is the last number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken = 0
        self.last = 0
        self._offset = 0

    def poll(self) -> Iterator[Event]:
        """Yield the events since the last call."""
        for record in self.records():
            event = event_from_json(record)
            if event is None:
                self.broken += 1
            else:
                yield event

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the same as JSON objects, of which nothing is known but that they have a number, a time and a kind."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                block = file.read()
        except OSError:  # not there yet, or its disk is away for now
            return
        end = block.rfind(b"\n") + 1
        self._offset += end
        lines = block[:end].decode("utf-8", "replace").split("\n")[:-1]
        for start in range(0, len(lines), BATCH):
            for record in self._parse(lines[start : start + BATCH]):
                try:
                    sequence = record["seq"] = int(record["seq"])
                    float(record["t"]), str(record["kind"])
                except (ValueError, TypeError, KeyError, OverflowError):
                    self.broken += 1
                    continue
                if sequence > self.last:
                    self.last = sequence
                    yield record

    def _parse(self, lines: list[str]) -> list[Any]:
        """Return the JSON of many lines at once, which is much faster than of each; of each when one is broken."""
        loads: Any = json.loads
        if len(lines) == BATCH:  # of a long log; less is not worth the import
            from pydantic_core import from_json as loads  # takes half the time of json
        try:
            values = loads(f"[{','.join(lines)}]")
            if len(values) == len(lines):
                return values
        except (ValueError, RecursionError):
            pass
        values = []
        for line in lines:
            try:
                values.append(json.loads(line))
            except (ValueError, RecursionError):
                self.broken += 1
        return values


def read_events(path: Path) -> list[Event]:
    """Read every readable event of a log, in order."""
    return list(EventReader(path).poll())


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read every readable line of a log, in order, as a JSON object with `seq`, `t`, `kind` and what the kind has."""
    return list(EventReader(path).records())
