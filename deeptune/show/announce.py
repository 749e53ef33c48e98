"""The word to a person who looks elsewhere when a run ends: a bell, a notification and the terminal's title."""

from __future__ import annotations

import os

from deeptune.formatting import visible
from deeptune.runs import RunDirectory, RunState
from deeptune.runs.state import SYMBOLS

SETTING = "DEEPTUNE_BELL"  # an environment variable: 0, off, no or false for silence
BELL = "\a"
# Of xterm, and of most terminals since: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html
KEEP_TITLE, FORMER_TITLE = "\x1b[22;2t", "\x1b[23;2t"
MAX_TEXT = 120  # characters of a message


def wants_bell() -> bool:
    """Check whether the environment leaves the bell on."""
    return os.environ.get(SETTING, "").strip().lower() not in ("0", "off", "no", "false")


def end_text(run: RunDirectory, state: RunState) -> str:
    """Say how a run ended, in a few words: `✓ done: scans-20260921`."""
    return f"{SYMBOLS[state.word]} {state.word}: {run.id}"


def announcement(text: str, term: str) -> str:
    """Write what makes a terminal of that kind ring, notify (OSC 9) and show `text` as its title (OSC 2).

    Nothing for a terminal that is none; only the bell for the Linux console, which shows no such text.
    """
    if term in ("", "dumb", "unknown"):
        return ""
    if term == "linux":
        return BELL
    said = visible(text)[:MAX_TEXT].replace(";", ",")
    return f"\x1b]2;{said}{BELL}\x1b]9;DeepTune {said}{BELL}{BELL}"
