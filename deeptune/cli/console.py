"""What is written to a terminal. Text from data, paths and messages is never markup and never an escape."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from deeptune.report.tables import visible

if TYPE_CHECKING:
    from rich.console import Console


PIPE_WIDTH = 160


def safe(text: object) -> str:
    """`text` with control and formatting characters shown as escapes, so that no terminal acts on them."""
    return "\n".join(visible(line) for line in str(text).split("\n"))


def console(*, stderr: bool = False, file: Any = None) -> Console:
    """A Rich console without markup, emoji codes or highlighting; it obeys NO_COLOR."""
    from rich.console import Console

    out = Console(stderr=stderr, file=file, markup=False, emoji=False, highlight=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = PIPE_WIDTH  # a file or a pipe has no edge to wrap at
    return out


def say(text: object = "", *, stderr: bool = False) -> None:
    """One plain line (or several), unwrapped, as it is."""
    print(safe(text), file=sys.stderr if stderr else sys.stdout, flush=True)


def fail(title: str, message: str, hint: str | None = None) -> None:
    """An error as people meet it: what is wrong, then what to do."""
    out = console(stderr=True)
    from rich.text import Text

    text = Text(f"{title}: ", style="bold red")
    text.append(safe(message), style="not bold default")
    if hint:
        text.append("\n" + safe(hint), style="dim")
    out.print(text, soft_wrap=True)
