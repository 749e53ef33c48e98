"""Splits that the original DeepTune wrote: three Parquet files, and a JSON file that maps class names to numbers.

    data_splits_20251128_1530/
      train_split.parquet  val_split.parquet  test_split.parquet
      label_mapping.json     {"cat": 0, "dog": 1}; not there if labels were left as they are
      test_indices.csv

One run of it has this folder in `deeptune-20251128-exp1/`, beside folders of training, evaluation and embeddings.
Labels get their names back. Where each name is a number (the original gives numbers of a regression such indices too),
they become these numbers again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.types as pt

from deeptune.errors import DataError, listed
from deeptune.importing.arrow_files import ArrowFile
from deeptune.importing.reader import Piece, Reader
from deeptune.importing.several_sources import SPLIT, Several

FILES = {"train": "train_split.parquet", "val": "val_split.parquet", "test": "test_split.parquet"}
MAPPING = "label_mapping.json"
LABELS = "labels"
_FOLDERS = "data_splits_*"
_THEIR_SPLIT = "split_in_data"  # the name of a column that was called `split` before


def find_splits(folder: Path) -> Path | None:
    """Find the folder of splits that a folder is or has in it, at most two levels below; None where it has none.

    Raises DataError for several.
    """
    if _is_splits(folder):
        return folder
    found = sorted({path for way in (_FOLDERS, f"*/{_FOLDERS}") for path in folder.glob(way) if _is_splits(path)})
    if len(found) > 1:
        raise DataError(
            f"{folder} holds {len(found)} folders of splits: {listed(str(path.relative_to(folder)) for path in found)}",
            hint="Name one of them.",
        )
    return found[0] if found else None


def _is_splits(folder: Path) -> bool:
    return (folder.match(_FOLDERS) or any((folder / name).is_file() for name in (MAPPING, "test_indices.csv"))) and all(
        (folder / name).is_file() for name in FILES.values()
    )


def original_splits(folder: Path) -> Reader:
    """Open a folder that `find_splits` found."""
    names = _read_mapping(folder / MAPPING)
    readers = [(split, _SplitFile(folder / name, names)) for split, name in FILES.items()]
    found = Several(folder, readers, "splits of the original DeepTune")
    if LABELS in found.schema.names:
        found.roles["label"] = LABELS
        if names is None:
            found.notes.append(f"there is no {MAPPING}: labels stay as they are")
        else:
            found.notes.append(f"{MAPPING} names {len(names)} labels: {listed(names)}")
    return found


class _SplitFile(Reader):
    """One file of a split, with labels in place of their indices."""

    kind = "split of the original DeepTune"

    def __init__(self, path: Path, names: list[str] | None) -> None:
        super().__init__(path)
        self._file = ArrowFile(path)
        self.units, stored = self._file.units, self._file.schema
        fields = [field.with_name(_THEIR_SPLIT) if field.name == SPLIT else field for field in stored]
        self._place = stored.get_field_index(LABELS) if names is not None else -1
        self._labels = _values(names or [])
        if self._place >= 0:
            if not pt.is_integer(fields[self._place].type):
                raise DataError(
                    f"{path}: the column {LABELS!r} is of type {fields[self._place].type}, and {MAPPING} names "
                    "integers",
                    hint=f"Remove {MAPPING} if it belongs to other files.",
                )
            fields[self._place] = pa.field(LABELS, self._labels.type)
        metadata = {key: value for key, value in (stored.metadata or {}).items() if key != b"pandas"}
        self.schema = pa.schema(fields, metadata=metadata)

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        row = start
        for piece in self._file.pieces(start):
            columns = list(piece.table.columns)
            if self._place >= 0:
                columns[self._place] = self._named(columns[self._place], row)
            yield Piece(pa.table(columns, schema=self.schema), piece.units, piece.left_out)
            row += piece.units

    def _named(self, indices: pa.ChunkedArray, first: int) -> pa.ChunkedArray:
        for offset, index in enumerate(indices.to_pylist()):
            if index is not None and not 0 <= index < len(self._labels):
                raise DataError(
                    f"{self.path}, row {first + offset}: label {index} is not in {MAPPING}, which has the labels 0 to "
                    f"{len(self._labels) - 1}",
                    hint=f"Put the {MAPPING} of these files beside them.",
                )
        return self._labels.take(indices.combine_chunks())


def _read_mapping(file: Path) -> list[str] | None:
    """Read the class names in the order of their indices; None where there is no file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {error}", hint="Copy it again.") from error
    indices = list(found.values()) if isinstance(found, dict) else []
    if not indices or any(type(index) is not int for index in indices) or sorted(indices) != [*range(len(indices))]:
        raise DataError(
            f"{file} is not a mapping of labels to the integers 0, 1, 2 and so on, each once",
            hint='It should look like {"cat": 0, "dog": 1}.',
        )
    return sorted(found, key=found.__getitem__)


def _values(names: list[str]) -> pa.Array:
    """Turn names into integers or numbers, if each is one exactly as Python writes it, and keep them as text if not."""
    for kind in (int, float):
        try:
            numbers = [kind(name) for name in names]
            if names and [str(number) for number in numbers] == names:
                return pa.array(numbers, pa.int64() if kind is int else pa.float64())
        except (ValueError, OverflowError, pa.ArrowException):
            continue
    return pa.array(names, pa.string())
