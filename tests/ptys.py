"""A pseudo-terminal with a command on it, whose other end a test holds: it reads, types, or goes away."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9])")


class Terminal:
    """`Terminal(["attach", "latest"], folder, environment)` runs `deeptune attach latest` there, in front of a person.

    `hangs_up` False leaves the command out of the terminal's session: it is not sent SIGHUP when that closes.
    `module` may be another program than `deeptune`; `size` is columns and rows; `kind` is what TERM says.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        environment: dict[str, str],
        *,
        hangs_up: bool = True,
        module: str = "deeptune",
        size: tuple[int, int] = (110, 40),
        kind: str = "xterm-256color",
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.drawn = ""

        def take_terminal() -> None:
            os.setsid()
            if hangs_up:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env={**environment, "TERM": kind},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=take_terminal,  # noqa: PLW1509  no other thread runs here
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *details: object) -> None:
        self.process.kill()
        self.process.wait()
        self.close()

    def read(self, seconds: float = 0.2) -> str:
        """All that is drawn until nothing comes for a while; returns all that was ever drawn, as text."""
        with suppress(OSError):  # Linux says EIO when the other end has closed
            while self._ours >= 0 and select.select([self._ours], [], [], seconds)[0]:
                if not (block := os.read(self._ours, 65536)):
                    break
                self.drawn += block.decode("utf-8", "replace")
        return ESCAPE.sub("", self.drawn)

    def shows(self, text: str, *, seconds: float = 60) -> str:
        """Read until `text` is there."""
        deadline = time.monotonic() + seconds
        while text not in (shown := self.read()):
            assert time.monotonic() < deadline, f"{text!r} does not appear in:\n{shown[-3000:]}"
        self.drawn = ""  # what comes next is new
        return shown

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def press_ctrl_c(self) -> None:
        self.type("\x03")

    def unread(self) -> int:
        """How many bytes wait to be read."""
        return struct.unpack("i", fcntl.ioctl(self._ours, termios.FIONREAD, b"\0" * 4))[0]

    def close(self) -> None:
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def ends(self, *, seconds: float = 60) -> int:
        """The exit code, with what is drawn until then read."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.read()[-3000:]
            self.read()
        self.read()
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
