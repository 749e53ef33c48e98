"""Finds the run that a command is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deeptune.show.console import say

if TYPE_CHECKING:
    from deeptune.runs import RunDirectory


def named_run(reference: str, root: Path) -> RunDirectory:
    """Find the run that a reference names. Where `latest` passes over a newer run that failed, say so."""
    from deeptune.runs import find_run, runs_in

    run = find_run(reference, root)
    if reference == "latest" and run != (newest := runs_in(root)[0]):
        said = f"latest is {run.reference}: the newer {newest.reference} failed before its training began"
        say(f"{said} (deeptune status {newest.reference})", stderr=True)
    return run
