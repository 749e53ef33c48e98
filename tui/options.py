"""The options of the interface, and what the environment says about the terminal."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

GRAPHICS = ("auto", "ascii")


@dataclass(frozen=True)
class Options:
    """Options of the interface: its looks and its rights.

    `root` is the folder of the runs. With `ascii` nothing outside ASCII is drawn. With `ssh` fewer bytes are sent.
    `color` is False where NO_COLOR is set. `graphics` is how images are drawn: `auto` is in half blocks where there are
    colours, `ascii` takes the fewest bytes. With `bell` the terminal rings when a run ends. `console` is True on the
    Linux console, whose fonts have lines and blocks but no braille.
    """

    root: Path = Path("runs")
    ascii: bool = False
    mouse: bool = True
    read_only: bool = False
    ssh: bool = False
    color: bool = True
    graphics: str = "auto"
    theme: str = "deeptune-dark"
    bell: bool = True
    console: bool = False

    @property
    def dots(self) -> bool:
        """Whether charts may be drawn in braille dots."""
        return not (self.ascii or self.console)


def over_ssh() -> bool:
    """Check whether this process runs in an SSH session."""
    return bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))


def speaks_utf8() -> bool:
    """Check whether the terminal takes UTF-8, by the locale."""
    named = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(name))), "")
    return named not in ("C", "POSIX") and (not named or "utf" in named.lower())


def state_folder() -> Path:
    """Return the folder of the interface's state, such as drafts (the XDG base directory specification)."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "deeptune"


def config_folder() -> Path:
    """Return the folder of the user's settings (the XDG base directory specification)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "deeptune"
