"""Checks of the terminal: UTF-8, a size, colours; and a session that survives a lost line."""

from __future__ import annotations

import locale
import os
import shutil
import sys
from collections.abc import Iterator

from deeptune.doctor.finding import Finding, ok, warn

MIN_COLUMNS, MIN_LINES = 80, 24


def language() -> Iterator[Finding]:
    """Check that text of any language can be read and shown."""
    encoding = locale.getpreferredencoding(False)
    shown = getattr(sys.stdout, "encoding", None) or "ascii"
    if "utf" in encoding.lower() and "utf" in shown.lower():
        yield ok("locale", f"{encoding}, {os.environ.get('LC_ALL') or os.environ.get('LANG') or 'no LANG'}")
    else:
        found = f"files are read as {encoding}, the terminal takes {shown}: pictures and plots use ASCII"
        yield warn("locale", found, "export LANG=C.UTF-8")


def abilities() -> Iterator[Finding]:
    """Check kind, size and colours of the terminal."""
    if not sys.stdout.isatty():
        yield ok("terminal", "the output is not a terminal: plain text, no colours, no progress bars")
        return
    size, kind = shutil.get_terminal_size(), os.environ.get("TERM", "")
    found = f"{kind or 'no TERM'}, {size.columns}x{size.lines}, {_colours()}"
    if kind in ("", "dumb"):
        yield warn("terminal", found, "deeptune-tui needs a terminal that moves its cursor: export TERM=xterm-256color")
    elif size.columns < MIN_COLUMNS or size.lines < MIN_LINES:
        yield warn("terminal", found, f"deeptune-tui shows everything from {MIN_COLUMNS}x{MIN_LINES}.")
    else:
        yield ok("terminal", found)


def _colours() -> str:
    if "NO_COLOR" in os.environ:
        return "no colours (NO_COLOR)"
    if os.environ.get("COLORTERM", "") in ("truecolor", "24bit"):
        return "16 million colours"
    return "256 colours" if "256" in os.environ.get("TERM", "") else "16 colours"


def session() -> Iterator[Finding]:
    """Check whether a lost SSH line would close the terminal interface. Runs go on in any case."""
    if not os.environ.get("SSH_CONNECTION"):
        return
    inside = "tmux" if os.environ.get("TMUX") else "screen" if os.environ.get("STY") else ""
    if inside:
        yield ok("ssh", f"inside {inside}: the interface survives a lost line")
    else:
        here = shutil.which("tmux") is not None
        remedy = "Start `tmux` first, and return by `tmux attach`." if here else "Install tmux, and start it first."
        yield warn("ssh", "a lost line closes the interface; runs continue, and `deeptune attach` shows them", remedy)
