"""NumPy archives (`.npz`) of images and labels, such as those of MedMNIST and Keras; objects are never unpickled."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deeptune.errors import DataError, first_line
from deeptune.importing.pictures import PieceRows
from deeptune.importing.reader import LeftOut, Piece, Reader, Shot
from deeptune.importing.stored_values import stored, whole
from deeptune.spec.values import split_named

_ROWS = 256
_SEPARATORS = re.compile(r"[_\-./ ]+")


@dataclass(frozen=True)
class Header:
    """The shape and type of an array in the archive."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


@dataclass(frozen=True)
class Part:
    """Images, and the labels that belong to them by their name and number."""

    split: str | None
    images: str
    labels: str | None


class NumpyArchive(Reader):
    """Arrays of images (N, H, W) or (N, H, W, C), with arrays of N labels. Names with train, val or test are splits."""

    kind = "NumPy archive"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._headers = _headers(path)
        self._parts = _parts(self._headers, path)
        self._labels = {part.images: self._read_labels(part) for part in self._parts}
        self._of_shares = {part.images: self._holds_shares(part) for part in self._parts}
        self.units = sum(self._headers[part.images].shape[0] for part in self._parts)
        self.roles = {"input": "images"}
        fields = [pa.field("images", pa.binary())]
        found = next((labels for labels in self._labels.values() if labels is not None), None)
        if found is not None:
            fields += [pa.field(name, values.type) for name, values in found.items()]
            if "labels" in found:
                self.roles["label"] = "labels"
        if all(part.split for part in self._parts):
            fields.append(pa.field("split", pa.string()))
            self.roles["split"] = "split"
        self.schema = pa.schema(fields)
        for part in self._parts:
            shape = " × ".join(map(str, self._headers[part.images].shape))
            self.notes.append(f"{part.images} ({shape}) with {part.labels or 'no labels'}")

    def _holds_shares(self, part: Part) -> bool:
        """Check whether colours are from 0 to 1: of all images, as a dark one of 0 to 255 may have no value above 1."""
        header = self._headers[part.images]
        if header.dtype.kind != "f" or len(header.shape) != 4:
            return False
        blocks = _stream(self.path, part.images, header)
        return all(float(np.nanmax(values, initial=0)) <= 1 for values in blocks)

    def _read_labels(self, part: Part) -> dict[str, pa.Array] | None:
        if part.labels is None:
            return None
        values = np.concatenate(list(_stream(self.path, part.labels, self._headers[part.labels])))
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim == 1:
            return {"labels": pa.array(values.astype(str) if values.dtype.kind in "SU" else values)}
        if values.ndim == 2 and np.isin(values, (0, 1)).all():
            return {"labels": pa.array([np.flatnonzero(row).tolist() for row in values], pa.list_(pa.int64()))}
        return {f"labels_{place}": pa.array(column) for place, column in enumerate(values.reshape(len(values), -1).T)}

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        for part in self._parts:
            header, first = self._headers[part.images], 0
            for values in _stream(self.path, part.images, header):
                skip = min(max(0, start - first), len(values))
                if skip < len(values):
                    yield self._piece(part, values[skip:], first + skip)
                first += len(values)
            start = max(0, start - header.shape[0])

    def _piece(self, part: Part, values: np.ndarray, first: int) -> Piece:
        rows, left_out, labels = PieceRows(self.schema), [], self._labels[part.images] or {}
        for place, image in enumerate(values, first):
            facts = {name: column[place].as_py() for name, column in labels.items()}
            try:
                shot = Shot(_image(image, shares=self._of_shares[part.images]))
                rows.add(shot, "images", {**facts, "split": part.split})
            except DataError as error:
                left_out.append(LeftOut(f"{part.images}[{place}]", error.message))
        return Piece(rows.table(), len(values), left_out)


def _image(values: np.ndarray, *, shares: bool) -> bytes:
    """Return an array as an encoded image of the same values; colours that are `shares` of 1 become 8 bits."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3, 4):
        values = values.transpose(1, 2, 0) if values.shape[0] == 3 else values[0]
    if not np.isfinite(values).all():
        raise DataError("holds values that are NaN or infinite")
    values = values if values.dtype == np.uint8 else whole(values)
    low, high = values.min(), values.max()
    if values.ndim == 3 and values.dtype != np.uint8:
        if low >= 0 and shares:
            return stored(np.rint(255 * values).astype(np.uint8))
        if values.dtype.kind == "i" and low >= 0 and high <= 255:
            return stored(values.astype(np.uint8))
        raise DataError(f"holds colours from {low:g} to {high:g}, and 0 to 255 or 0 to 1 was expected")
    return stored(values)


def _headers(path: Path) -> dict[str, Header]:
    found = {}
    try:
        with zipfile.ZipFile(path) as file:
            for info in file.infolist():
                if not info.filename.endswith(".npy"):
                    continue
                with file.open(info) as stream:
                    version = np.lib.format.read_magic(stream)
                    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                    if version not in read:
                        raise ValueError(f"version {version} of the NPY format")
                    shape, fortran, dtype = read[version](stream)
                    found[info.filename.removesuffix(".npy")] = Header(shape, dtype, fortran)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path} cannot be read as a NumPy archive: {first_line(error)}") from error
    return {name: header for name, header in found.items() if header.dtype.kind in "biufSU"}


def _parts(headers: dict[str, Header], path: Path) -> list[Part]:
    images = [name for name, header in headers.items() if len(header.shape) in (3, 4) and header.dtype.kind in "biuf"]
    if not images:
        shapes = ", ".join(f"{name} {header.dtype} {header.shape}" for name, header in headers.items()) or "no numbers"
        raise DataError(
            f"{path} holds no array of images: {shapes}",
            hint="Images are an array (N, H, W) or (N, H, W, 3) of numbers.",
        )
    parts = []
    for name in images:
        rows, split = headers[name].shape[0], _split_of(name)
        labels = [
            other
            for other, header in headers.items()
            if other not in images and header.shape and header.shape[0] == rows and _split_of(other) == split
        ]
        labels.sort(key=lambda other: not re.search(r"(^|[_\-])(y|labels?|targets?)([_\-]|$)", other))
        parts.append(Part(split, name, labels[0] if labels else None))
    order = {"train": 0, "val": 1, "test": 2}
    return sorted(parts, key=lambda part: order.get(part.split or "", 3))


def _split_of(name: str) -> str | None:
    found = [split for word in _SEPARATORS.split(name) if (split := split_named(word)) is not None]
    return found[0] if found else None


def _stream(path: Path, name: str, header: Header) -> Iterator[np.ndarray]:
    """Yield an array's rows, some at a time; a column-major one is read whole."""
    try:
        with zipfile.ZipFile(path) as file, file.open(f"{name}.npy") as stream:
            if header.fortran:
                yield np.lib.format.read_array(stream, allow_pickle=False)
                return
            version = np.lib.format.read_magic(stream)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            reader(stream)
            size = int(np.prod(header.shape[1:], dtype=np.int64)) * header.dtype.itemsize
            for first in range(0, header.shape[0], _ROWS):
                rows = min(_ROWS, header.shape[0] - first)
                data = stream.read(rows * size)
                if len(data) < rows * size:
                    raise ValueError("the file ends within an array")
                yield np.frombuffer(data, header.dtype).reshape(rows, *header.shape[1:])
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, MemoryError) as error:
        raise DataError(f"{path}: array {name!r} cannot be read: {first_line(error)}") from error
