"""The folders that DeepTune and its libraries write to: rights and room."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deeptune.catalog import hf_hub_dir, torch_hub_dir
from deeptune.data.cache.entry import cache_folder
from deeptune.doctor.finding import Finding, fail, ok, warn
from deeptune.formatting import size_text

MIN_FREE = 5_000_000_000  # bytes: a few checkpoints, or the features of a large data set


def folders() -> Iterator[Finding]:
    """Check the folder for runs, the cache, the weights' caches and the temporary files."""
    for name, folder, remedy in (
        ("runs", Path.cwd() / "runs", "Start runs in another folder, or give --output."),
        ("cache", cache_folder(), "Set DEEPTUNE_CACHE to a folder on another disk."),
        ("torch weights", torch_hub_dir(), "Set TORCH_HOME to a folder on another disk."),
        ("hub weights", hf_hub_dir(), "Set HF_HOME to a folder on another disk."),
        ("temporary files", Path(tempfile.gettempdir()), "Set TMPDIR to another folder."),
    ):
        yield folder_finding(name, folder, remedy)


def folder_finding(name: str, folder: Path, remedy: str) -> Finding:
    """Check one folder, or the one above it in which it would be made."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return fail(name, f"{folder} cannot be written", remedy)
    free = shutil.disk_usage(there).free
    found = f"{folder}, {size_text(free)} free"
    return warn(name, found, remedy) if free < MIN_FREE else ok(name, found)
