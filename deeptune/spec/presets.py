"""The specs that ship with DeepTune. A preset is named by its file name, without `.toml`."""

from __future__ import annotations

import shlex
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from deeptune.errors import SpecError, did_you_mean

SUFFIX = ".toml"
# Of files that people name where a spec belongs.
_DATA_SUFFIXES = (
    *(".parquet", ".pq", ".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods", ".json", ".jsonl", ".ndjson"),
    *(".zip", ".tar", ".tgz", ".gz", ".npz", ".arrow", ".feather", ".dcm", ".nii", ".png", ".jpg", ".jpeg"),
)


def presets_folder() -> Path:
    """Return `deeptune/presets` in an installed wheel, `presets` beside the package in a checkout."""
    package = Path(str(files("deeptune")))
    inside = package / "presets"
    return inside if inside.is_dir() else package.parent / "presets"


def preset_files() -> dict[str, Path]:
    """List the presets with their files, sorted by name."""
    return {file.stem: file for file in sorted(presets_folder().glob(f"*{SUFFIX}"))}


def find_spec_file(reference: str) -> Path:
    """Find the file that a path or a preset's name stands for. Raises SpecError if there is neither."""
    there = False
    with suppress(OSError):  # a name that is too long is not a path
        path = Path(reference)
        there = bool(reference) and path.exists()
        if (path / "spec.toml").is_file():
            raise SpecError(
                f"{reference} is the folder of a run, not a run spec",
                hint=f"`deeptune resume {reference}` resumes that run, `deeptune run {path / 'spec.toml'}` begins "
                "another from its spec.",
            )
        if there and (path.is_dir() or path.suffix.lower() in _DATA_SUFFIXES):
            raise SpecError(
                f"{reference} is data, not a run spec",
                hint=f"Give it as data.path: `deeptune run --data {shlex.quote(reference)}`, or `deeptune init "
                f"{shlex.quote(reference)}` writes a spec for it.",
            )
        if path.is_file():
            return path
    presets = preset_files()
    if reference in presets:
        return presets[reference]
    near = did_you_mean(reference.removesuffix(SUFFIX), presets)
    file = "that is not a regular file" if there else "no such file"
    raise SpecError(
        f"there is no run spec {reference!r}: {file}, and no preset of that name. {near}".rstrip(),
        hint="`deeptune presets` lists the presets.",
    )


def summary(file: Path) -> str:
    """Return a preset's first comment that is not a directive: one line about its purpose."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            return line.removeprefix("# ")
    return ""
