"""Commands that use a finished run."""

from __future__ import annotations

import shlex
from pathlib import Path

from deeptune.environment import short_path


def next_commands(run: Path) -> list[tuple[str, str]]:
    """List commands for the finished run in this folder as (purpose, command)."""
    path = Path(run).absolute()
    near = short_path(path)
    place = shlex.quote(str(path) if near.startswith(".") else near)
    return [
        ("Predict new rows, labelled or not", f"deeptune predict {place} --data FILE.parquet --output OUT.parquet"),
        ("Score it on other labelled data", f"deeptune evaluate {place} --data FILE.parquet"),
        ("Write embeddings of any rows", f"deeptune embed {place} --data FILE.parquet --output OUT.parquet"),
        ("Train it again", f"deeptune run {place}/spec.toml"),
    ]
