"""Sources that a run is given in place of Parquet files: imported once into the cache, and found there again.

    imports/KEY/NAME.parquet   the import, with `entry.json`, `use.lock` and `write.lock` as other entries have them

KEY is of the files of the source by name, size and time of change. An entry that was removed is made again from the
source, with the same bytes.
"""

from __future__ import annotations

import fcntl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeptune.data.cache.entry import FORMAT, cache_folder, locked, read_description
from deeptune.environment import short_path
from deeptune.errors import CheckpointError, DataError
from deeptune.formatting import counted
from deeptune.importing.archives import name_without_suffix
from deeptune.importing.detect import takes
from deeptune.importing.file_names import readable
from deeptune.importing.importer import import_data, key_of
from deeptune.importing.options import Options
from deeptune.progress import Progress
from deeptune.runs.files import storage_errors, write_json
from deeptune.runs.lock import close_lock

_held: dict[Path, int] = {}  # locks that keep entries from removal while this process reads them


@dataclass(frozen=True)
class CachedImport:
    """The Parquet file of a source, and a sentence about the import."""

    file: Path
    note: str


def is_source(path: Path) -> bool:
    """Check whether a path that is there can be imported, and is not a Parquet file of another name."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as stream:
                if stream.read(4) in (b"PAR1", b"PARE"):
                    return False
    return takes(path)


def cached_import(path: Path, *, key: str, root: str | None = None, progress: Progress | None = None) -> CachedImport:
    """Return the import of a source in the cache, made where it is not there.

    Raises DataError as `import_data` does.
    """
    options = Options(root=root)
    folder, file = _place(path, options)
    try:
        _hold(folder)
        facts = _facts(folder, file)
        if facts is None:
            with locked(folder / "write.lock", fcntl.LOCK_EX) as handle:
                facts = _facts(folder, file)  # another process may have made it meanwhile
                if facts is None:
                    done = import_data(path, file, options, progress=progress)
                    facts = done.to_json()
                    what = {"format": FORMAT, "what": f"import of {path}", "rows": done.rows, "width": None}
                    write_json(folder / "entry.json", {**what, "complete": True, "import": facts})
                close_lock(handle)
    except DataError as error:
        raise DataError(f"{key}: {error.message}", hint=error.hint) from error
    except CheckpointError as error:
        hint = f"`deeptune import {short_path(path)} -o data.parquet` writes it to another place."
        raise DataError(f"{key}: {path} has to be imported, and {error.message}", hint=hint) from error
    return CachedImport(file, _note(path, facts))


def is_imported(path: Path, root: str | None = None) -> bool:
    """Check whether the import of a source is in the cache."""
    return _facts(*_place(path, Options(root=root))) is not None


def _place(path: Path, options: Options) -> tuple[Path, Path]:
    """Return the folder of an import in the cache, and the Parquet file in it."""
    folder = cache_folder() / "imports" / key_of(path, options)
    name = Path(name_without_suffix(path)).stem if path.is_file() else path.resolve().name
    return folder, folder / f"{readable(name) or 'data'}.parquet"


def _hold(folder: Path) -> None:
    if folder in _held and folder.exists():
        return
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "use.lock", fcntl.LOCK_SH) as handle:
            _held[folder] = handle


def _facts(folder: Path, file: Path) -> dict[str, Any] | None:
    """Return what the import did; None where it is not there as a whole."""
    with suppress(OSError, ValueError):
        entry = read_description(folder)
        if entry.get("complete") is True and entry.get("format") == FORMAT and file.is_file():
            (folder / "entry.json").touch()  # the time of the last use
            return entry["import"]
    return None


def _note(path: Path, facts: dict[str, Any]) -> str:
    left_out = facts.get("left_out") or 0
    listed = f"; {left_out:,} left out, listed in {facts.get('left_out_file')}" if left_out else ""
    rows = counted(facts.get("rows") or 0, "row")
    return f"{short_path(path)} ({facts.get('kind')}) was imported: {rows} in the cache{listed}"
