"""Reports of a run: tables for the terminal, and one HTML file. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeptune.runs.directory import RunDirectory


def write_report(directory: Path, *, samples: bool | None = None) -> Path:
    """Write `report.html` and `report.json` into a run directory; returns the path of the page.

    They are made from the run's files alone, but for `samples`: test samples that are drawn from the run's data. None
    draws them if the report that is there does, and in a first report if the spec says so.
    Raises CheckpointError when a file that the report needs is missing or damaged, or when the report
    cannot be written.
    """
    from deeptune.report.html import write_report as write  # the tables alone should not cost the plots' imports

    return write(directory, samples)


def refresh_report(run: RunDirectory) -> None:
    """Write the report of a run again where test rows were looked at since it was written.

    Raises CheckpointError as `write_report` does.
    """
    try:
        stale = run.report.stat().st_mtime < run.test_looks.stat().st_mtime
    except OSError:  # one of them is not there
        return
    if stale:
        write_report(run.path)
