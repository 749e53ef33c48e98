"""What a person does next with a run, as commands."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def next_commands(run: Path) -> list[tuple[str, str]]:
    """(what for, command) for a finished run in that folder."""
    path = Path(os.path.abspath(run))
    here = Path.cwd()
    place = shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) and path != here else path))
    return [
        ("Predict new rows, labelled or not", f"deeptune predict {place} --data FILE.parquet --output OUT.parquet"),
        ("Score it on other labelled data", f"deeptune evaluate {place} --data FILE.parquet"),
        ("Write embeddings of any rows", f"deeptune embed {place} --data FILE.parquet --output OUT.parquet"),
        ("Train it again", f"deeptune run {place}/spec.toml"),
    ]
