"""Output to a terminal. Text from data, paths and messages is never markup and never an escape."""

from __future__ import annotations

import errno
import json
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from deeptune.formatting import safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


PIPE_WIDTH = 160
TERMINAL_GONE = frozenset({errno.EIO, errno.EPIPE, errno.ENXIO})  # how a closed terminal and a closed pipe say so


def console(*, stderr: bool = False, file: Any = None) -> Console:
    """Return a Rich console without markup, emoji codes or highlighting; it obeys NO_COLOR and FORCE_COLOR.

    Only a terminal is one: Rich takes FORCE_COLOR for a terminal, and would move the cursor in a file.
    """
    from rich.console import Console

    stream = file or (sys.stderr if stderr else sys.stdout)
    terminal, forced = stream.isatty(), os.environ.get("FORCE_COLOR") and "NO_COLOR" not in os.environ
    out = Console(
        stderr=stderr,
        file=file,
        markup=False,
        emoji=False,
        highlight=False,
        force_terminal=terminal,
        color_system="auto" if terminal else "standard" if forced else None,
    )
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = PIPE_WIDTH  # a file or a pipe has no edge to wrap at
    return out


@contextmanager
def progress_bar(out: Console) -> Iterator[tuple[Progress, TaskID]]:
    """Draw a bar that counts from "reading" on, and take it away at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=out, refresh_per_second=4, transient=True,
    ) as bar:  # fmt: skip
        yield bar, bar.add_task("reading", total=None)


def say(text: object = "", *, stderr: bool = False) -> None:
    """Print a plain line (or several), unwrapped, as it is."""
    print(safe(text), file=sys.stderr if stderr else sys.stdout, flush=True)


def say_json(value: Any, *, indent: int | None = None) -> None:
    """Print `value` as JSON on stdout, in ASCII: what a terminal might act on is a JSON escape."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    print(text.replace("\x7f", "\\u007f"), flush=True)  # DEL is the one control character that JSON leaves as it is


def fail(title: str, message: str, hint: str | None = None) -> None:
    """Print an error: what is wrong, then what to do."""
    out = console(stderr=True)
    from rich.text import Text

    text = Text(f"{title}: ", style="bold red")
    text.append(safe(message), style="not bold default")
    if hint:
        text.append("\n" + safe(hint), style="dim")
    with suppress(OSError, SystemExit):  # where nobody is left to tell, the exit code tells
        out.print(text, soft_wrap=True)


def is_gone(stream: Any) -> bool:
    """Check whether the terminal was closed, or the pipe at its other end; Rich would just fall silent."""
    poll = select.poll()
    try:
        poll.register(stream, 0)
        return any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False  # nothing that could hang up


def can_write(stream: Any) -> bool:
    """Check whether a terminal or a pipe takes something now; one that nobody reads is full and would block."""
    try:
        return bool(select.select([], [stream], [], 0)[1])
    except (OSError, ValueError):
        return True  # closed, or nothing that can be waited for: then a write tells


def forget(stream: Any) -> None:
    """Leave nothing to flush at exit to a stream whose reader is gone."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
