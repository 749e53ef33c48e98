"""Run a command of DeepTune in a separate process, as the interface never loads the engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deeptune.environment import module_command
from deeptune.runs import RunDirectory

GRACE = 5.0  # seconds to end after SIGINT


@dataclass(frozen=True)
class Progress:
    """The progress of a process: its activity, and the rows done and in total."""

    what: str
    done: int
    total: int


def command_of(run: RunDirectory, verb: str, data: str, output: Path, options: Sequence[str] = ()) -> list[str]:
    """Return the command line of `deeptune VERB RUN --data ... --output ... OPTIONS` with its progress as JSON."""
    arguments = [verb, str(run.path), "--data", data, "--output", str(output), *options, "--json-progress"]
    return deeptune_command(*arguments, *(["--json"] if verb == "evaluate" else []))


def deeptune_command(*arguments: str) -> list[str]:
    """Return the command line that runs `deeptune` with these arguments."""
    return module_command("deeptune", *arguments)


class Application:
    """Runs such a process. In the app's loop it calls `progress` with its progress and `tell` with other lines."""

    running: ClassVar[set[Application]] = set()

    def __init__(self, progress: Callable[[Progress], None], tell: Callable[[str], None]) -> None:
        self._progress, self._tell = progress, tell
        self._process: asyncio.subprocess.Process | None = None
        self.cancelled = False

    async def run(self, command: list[str]) -> tuple[int, str]:
        """Start the process and wait for it. Returns its exit code and output; warnings and errors go to `tell`."""
        process = self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # so that it is ended with all its workers, and no key of this terminal reaches it
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self.running.add(self)
        try:
            printed, _ = await asyncio.gather(process.stdout.read(), self._listen(process.stderr))
            code = await process.wait()
        finally:
            self.running.discard(self)
        self._process = None
        return code, printed.decode("utf-8", "replace")

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while block := await stream.read(65536):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._take(line.decode("utf-8", "replace"))
        if rest:
            self._take(rest.decode("utf-8", "replace"))

    def _take(self, line: str) -> None:
        if line.startswith('{"progress"'):
            with suppress(ValueError, TypeError, KeyError):
                self._progress(Progress(**json.loads(line)["progress"]))
                return
        self._tell(line)

    async def cancel(self) -> None:
        """Interrupt the process as Ctrl+C would, and kill it if it does not end."""
        self.cancelled = True
        self._send(signal.SIGINT)
        deadline = asyncio.get_running_loop().time() + GRACE
        while self._process is not None and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """Kill the process."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
