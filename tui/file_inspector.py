"""Read Parquet files in a separate process, so that nothing in them can block or end the interface."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import suppress
from typing import Any

from deeptune.environment import module_command
from deeptune.errors import DataError
from deeptune.progress import Progress


class Dropped(Exception):
    """Raised when a newer question replaces this one."""


class Inspector:
    """Answers one question at a time. `ask` waits, so threads call it. `drop` ends a question of another thread."""

    def __init__(self, module: str = "deeptune.data.inspect") -> None:
        self._module = module
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._waiting = 0

    def ask(self, *, progress: Progress | None = None, **question: Any) -> Any:
        """Return the answer of the module. Raises DataError, or Dropped.

        `progress(done, total)` is called while data is imported or audited.
        """
        with self._lock:
            process = self._process = self._process or self._start()
            self._waiting += 1
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            while (line := process.stdout.readline()).startswith('{"progress"'):
                if progress is not None:
                    progress(*json.loads(line)["progress"])
        except (OSError, ValueError):  # its pipes are closed
            line = ""
        with self._lock:
            self._waiting -= 1
            dropped = process is not self._process
            if not line and not dropped:
                self._process = None
        if dropped:
            raise Dropped
        if not line:
            code = process.wait()
            why = "the system ended it, as it does when memory runs out" if code < 0 else f"it ended with code {code}"
            raise DataError(
                f"the process that reads the data is gone: {why}", hint="Split the file, or write it again."
            )
        reply = json.loads(line)
        if "error" in reply:
            raise DataError(reply["error"], hint=reply["hint"])
        return reply["answer"]

    def drop(self) -> None:
        """End the current question, if there is one."""
        with self._lock:
            if self._waiting:
                self._end()

    def close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError):
                process.kill()
            threading.Thread(target=process.wait, daemon=True).start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            module_command(self._module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
