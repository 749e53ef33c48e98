"""WebDataset shards (https://github.com/webdataset/webdataset): TAR files in which `KEY.EXT` are the parts of a sample.

`cls` is a class, `txt` a text, `json` an object whose keys become columns. Shards are streamed, never unpacked.
"""

from __future__ import annotations

import json
import os
import tarfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from deeptune.data.images.column_values import MAX_FILE
from deeptune.data.images.decode import unusable_reason
from deeptune.errors import DataError, listed
from deeptune.importing.archives import Guard, damaged, open_tar
from deeptune.importing.file_names import is_ignored, readable, split_in_name
from deeptune.importing.options import Options
from deeptune.importing.pictures import IMAGES, PieceRows
from deeptune.importing.reader import PIECE_ROWS, LeftOut, Piece, Reader, Shot

_FIRST = 200  # first samples, which tell the columns
_LABELS, _TEXTS = ("cls", "cls2"), ("txt", "text")
Sample = tuple[str, dict[str, bytes]]


class WebDataset(Reader):
    """The samples of shards in the order of their names. Shards that are named as splits keep these."""

    kind = "WebDataset"

    def __init__(self, path: Path, shards: Sequence[Path], options: Options) -> None:
        super().__init__(path)
        self._shards = list(shards)
        first = [sample for _, sample in zip(range(_FIRST), self._samples(self._shards[0]), strict=False)]
        if not first:
            raise DataError(f"{self._shards[0]} holds no samples")
        found: dict[str, list[Any]] = {}
        for _, parts in first:
            for name, value in _values(parts).items():
                found.setdefault(name, []).append(value)
        self._splits = {shard: split_in_name(shard.name) for shard in shards}
        fields = [pa.field(name, _type_of(name, values)) for name, values in found.items()]
        if len(shards) > 1 and all(self._splits.values()):
            fields.append(pa.field("split", pa.string()))
            self.roles["split"] = "split"
        if options.paths and "key" not in found:
            fields.append(pa.field("key", pa.string()))
        self.schema = pa.schema(fields)
        for role, name in (("input", "images" if "images" in found else "text"), ("label", "labels")):
            if name in self.schema.names:
                self.roles[role] = name
        self.notes.append(f"{len(shards):,} {'shard' if len(shards) == 1 else 'shards'}: {listed(found)}")

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        rows, left_out, units, seen = PieceRows(self.schema), list[LeftOut](), 0, 0
        for shard in self._shards:
            for key, parts in self._samples(shard):
                seen += 1
                if seen <= start:
                    continue
                units += 1
                values = {**_values(parts), "key": key, "split": self._splits[shard]}
                if (reason := self._unfit(values)) is not None:
                    left_out.append(LeftOut(f"{shard.name}, {key}", reason))
                elif "images" in values:
                    rows.add(Shot(values.pop("images")), "images", values)
                else:
                    rows.add(Shot(b"", {}), "", values)
                if rows.is_full or units >= PIECE_ROWS:
                    yield Piece(rows.table(), units, left_out)
                    rows.clear()
                    left_out, units = [], 0
        if units:
            yield Piece(rows.table(), units, left_out)

    def _unfit(self, values: dict[str, Any]) -> str | None:
        """Say why a sample does not fit the columns; other values become text where a column is text."""
        if "images" in self.schema.names:
            if "images" not in values:
                return "holds no picture"
            with warnings.catch_warnings(action="ignore"):
                if (reason := unusable_reason(values["images"])) is not None:
                    return reason
        for field in self.schema:
            value = values.get(field.name)
            if pt.is_string(field.type) and value is not None and not isinstance(value, str):
                values[field.name] = json.dumps(value)
            try:
                pa.array([values.get(field.name)], field.type)
            except (pa.ArrowException, OverflowError):
                return f"holds {values[field.name]!r} as {field.name}, and the first samples hold {field.type}"
        return None

    def _samples(self, shard: Path) -> Iterator[Sample]:
        guard = Guard(shard)
        key, parts = "", dict[str, bytes]()
        try:
            with open_tar(shard) as file:
                for info in file:
                    guard.member()
                    path = PurePosixPath(info.name)
                    if not info.isfile() or is_ignored(path):
                        continue
                    this, _, extension = path.name.partition(".")
                    this = readable((path.parent / this).as_posix())
                    if this != key and parts:
                        yield key, parts
                        parts = {}
                    key = this
                    if info.size <= MAX_FILE:
                        guard.take(info.size)
                        parts[extension.lower()] = file.extractfile(info).read()
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise damaged(shard, error) from error
        if parts:
            yield key, parts


def is_webdataset(shard: Path) -> bool:
    """Check whether a TAR file holds samples: parts of one key, one of them `cls`, `txt` or `json`."""
    try:
        with open_tar(shard) as file:
            names = [info.name for info, _ in zip(file, range(20), strict=False) if info.isfile()]
    except (tarfile.TarError, EOFError, OSError, ValueError):
        return False
    extensions: dict[str, set[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        key, _, extension = path.name.partition(".")
        extensions.setdefault(str(path.parent / key), set()).add(extension.lower())
    known = {*_LABELS, *_TEXTS, "json"}
    return any(len(found) > 1 and found & known for found in extensions.values())


def _values(parts: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the values of a sample by column."""
    values: dict[str, Any] = {}
    for extension, data in parts.items():
        if os.path.splitext(f"x.{extension}")[1] in IMAGES:
            values.setdefault("images", data)
        elif extension in _LABELS:
            values.setdefault("labels", _label(data))
        elif extension in _TEXTS:
            values.setdefault("text", data.decode("utf-8", "replace"))
        elif extension == "json":
            try:
                found = json.loads(data)
            except (ValueError, RecursionError):
                found = None
            for name, value in (found if isinstance(found, dict) else {}).items():
                values.setdefault("labels" if name == "label" else name, value)
    return values


def _label(data: bytes) -> int | str:
    text = data.decode("utf-8", "replace").strip()
    return int(text) if text.lstrip("-").isdigit() and len(text) < 18 else text


def _type_of(name: str, values: list[Any]) -> pa.DataType:
    if name == "images":
        return pa.binary()
    try:
        kind = pa.array(values).type
    except (pa.ArrowException, OverflowError):
        return pa.string()
    return pa.string() if pt.is_null(kind) else kind
