"""The event log: one JSON object a line, appended by one writer, readable at any moment by anyone."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeptune.runs.files import DISK_FULL, finite, fits, storage_errors, sync

VERSION = 1
BATCH = 500  # lines
LAST_TIME = 253402300800  # the year 10000, in seconds since 1970
MOST_PENDING = 1_000_000  # bytes kept while the disk is full


class EventWriter:
    """Appends events to `events.jsonl`, one `os.write` per line, so that lines never interleave.

    `kind` is the event's word; the other keys are its content. Non-finite numbers become null. A log that
    exists is continued: after its last number, and on a line of its own. While the disk is full lines wait in memory
    and are written when there is room. Any thread may write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._pending = bytearray()
        with storage_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self.earlier = read_events(path)
            self._sequence = max((event["seq"] for event in self.earlier), default=0)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                self._pending += b"\n"  # the last writer died in the middle of a line

    def write(self, kind: str, **content: Any) -> None:
        with self._lock:
            if len(self._pending) > MOST_PENDING:
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
        self.write("warning", message=message)

    def close(self) -> None:
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

    A line without its end is left for the next poll; a line that is no event is counted in `broken` and passed over;
    a sequence number seen before is passed over, also when the file was cut and grew again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken = 0
        self._offset = 0
        self._last = 0

    def poll(self) -> Iterator[dict[str, Any]]:
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
            for event in self._parse(lines[start : start + BATCH]):
                try:
                    sequence = int(event["seq"])
                    float(event["t"]), str(event["kind"])
                except (ValueError, TypeError, KeyError, OverflowError):
                    self.broken += 1
                    continue
                if sequence > self._last:
                    self._last = sequence
                    yield event

    def _parse(self, lines: list[str]) -> list[Any]:
        """The JSON of many lines at once, which is much faster than of each; of each when one is broken."""
        try:
            values = json.loads(f"[{','.join(lines)}]")
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


_SHAPES: dict[str, Any] = {
    "phase": {"phase": str},
    "start": {
        "backbone": str, "weights": str, "method": str, "device": str, "device_reason": str, "steps": int,
        "rows": {"train": int, "val": int, "test": int}, "parameters": {"trainable": int, "total": int},
    },
    "step": {
        "step": int, "epoch": int, "epoch_step": int, "epoch_steps": int, "epochs": int, "loss": float,
        "learning_rate": float, "gradient_norm": float, "rate": float, "waiting": float,
    },
    "epoch": {"epoch": int, "epochs": int, "train": {"loss": float}},
    "checkpoint": {"which": str, "epoch": int},
    "resume": {"step": int, "epoch": int},
    "sample": {"process_gib": float, "free_gib": float},
    "stopping": {"reason": str},
    "warning": {"message": str},
    "message": {"message": str},
    "end": {"state": str},
}  # fmt: skip


def well_formed(event: dict[str, Any]) -> bool:
    """Whether an event has what its kind has, so that a viewer may use it as it is."""
    kind, at = event["kind"], event["t"]
    if not (isinstance(kind, str) and isinstance(at, (int, float)) and 0 <= at < LAST_TIME):
        return False
    if not fits(_SHAPES.get(kind, {}), event):
        return False
    val = event.get("val") if kind == "epoch" else None
    return val is None or (isinstance(val, dict) and all(fits(float, value) for value in val.values()))


def read_events(path: Path) -> list[dict[str, Any]]:
    """Every readable event of a log, in order."""
    return list(EventReader(path).poll())
