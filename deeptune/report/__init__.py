"""What people read of a run: tables for the terminal, and one HTML file. No torch here."""

from __future__ import annotations

from pathlib import Path


def write_report(directory: Path) -> Path:
    """Write `report.html` and `report.json` into a run directory, from its files alone; returns the path of the page.

    Raises CheckpointError when a file that the report needs is missing or damaged, or when the report
    cannot be written.
    """
    from deeptune.report.html import write_report as write  # the tables alone should not cost the plots' imports

    return write(directory)
