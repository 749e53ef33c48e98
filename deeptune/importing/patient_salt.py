"""The secret that patients' ids are hashed with, so that a code can't be found by trying ids."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from deeptune.runs.files import storage_errors

_BYTES = 32


def salt_file() -> Path:
    """Return `$XDG_CONFIG_HOME/deeptune/patient-salt`, else `~/.config/deeptune/patient-salt`."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.config")) / "deeptune" / "patient-salt"


def patient_salt() -> bytes:
    """Return this person's salt, made at the first use: the same patient then has the same code in each import.

    Raises CheckpointError where it can be neither read nor written.
    """
    file = salt_file()
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(secrets.token_hex(_BYTES) + "\n")
        return file.read_bytes().strip()[:64]
