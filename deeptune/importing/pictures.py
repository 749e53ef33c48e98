"""Files of pictures as rows: an image file as its own bytes, a DICOM file or a NIfTI volume as an image for each frame.

`Pictures` reads a file by its suffix or first bytes. What kinds there are decides the columns beside the image.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from deeptune.data.images.column_values import read_named
from deeptune.data.images.decode import unusable_reason
from deeptune.errors import DataError
from deeptune.importing.file_names import readable
from deeptune.importing.options import Options
from deeptune.importing.reader import PIECE_BYTES, Shot

IMAGES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif",
    ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
})  # fmt: skip
DICOM = frozenset({".dcm", ".dicom", ".ima"})
NIFTI = (".nii", ".nii.gz")
_MARKS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")  # first bytes of images

_THREADS = min(8, 2 * (os.cpu_count() or 1))
_AT_ONCE = 64  # files that threads share

T = TypeVar("T")


def picture_kind(path: Path) -> str | None:
    """Return `image`, `dicom`, `nifti` or None by the name of a file.

    Its first bytes decide where it has no suffix.
    """
    name = path.name.lower()
    suffix = os.path.splitext(name)[1]
    if suffix in IMAGES:
        return "image"
    if suffix in DICOM:
        return "dicom"
    if name.endswith(NIFTI):
        return "nifti"
    # DICOM files often have no suffix, or end with a part of their number: IM0001, 1.2.840.113619
    return _kind_by_content(path) if suffix == "" or suffix[1:].isdigit() else None


def _kind_by_content(path: Path) -> str | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError:
        return None
    if head[128:] == b"DICM":
        return "dicom"
    return "image" if head.startswith(_MARKS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") else None


class Pictures:
    """Reads files of the kinds that a source holds. `fields` are the columns beside the image."""

    def __init__(self, kinds: Iterable[str], options: Options) -> None:
        self.fields: list[pa.Field] = []
        self._dicom: Any = None
        self._nifti: Any = None
        if "dicom" in (kinds := set(kinds)):
            from deeptune.importing.dicom import DicomFiles

            self._dicom = DicomFiles(options)
            self.fields += self._dicom.fields
        if "nifti" in kinds:
            from deeptune.importing.nifti import FIELDS, slices

            self._nifti = slices
            self.fields += FIELDS

    @property
    def group(self) -> str | None:
        """The column whose rows belong together, where the files name such."""
        return "patient" if self._dicom else "volume" if self._nifti else None

    def read(self, path: Path, name: str, kind: str | None) -> list[Shot] | str:
        """Return the images of a file, or a reason why there are none, which begins with a verb."""
        try:
            if kind == "dicom" and self._dicom:
                return self._dicom.read(path, name)
            if kind == "nifti" and self._nifti:
                return self._nifti(path, name)
            data = read_named(path, name)
        except DataError as error:
            return error.message
        reason = unusable_reason(data)
        return [Shot(data)] if reason is None else reason

    def finished(self) -> list[str]:
        """List what the files said that a person should know."""
        return self._dicom.finished() if self._dicom else []


def in_threads(items: Sequence[T], read: Any) -> Iterator[tuple[T, Any]]:
    """Yield each item with what `read(item)` gave, in order, while threads work ahead; a few items are in memory."""
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(_THREADS) as threads:
        for start in range(0, len(items), _AT_ONCE):
            some = items[start : start + _AT_ONCE]
            yield from zip(some, threads.map(read, some), strict=True)


class PieceRows:
    """Collects rows until they are a piece."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.clear()

    def clear(self) -> None:
        """Begin the next piece."""
        self._columns: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        self._bytes = 0

    def add(self, shot: Shot, image: str, values: dict[str, Any]) -> None:
        """Add a row: an image in the column `image`, and values by column; null where nothing is known."""
        row = {**values, **shot.facts, image: shot.image}
        for name, column in self._columns.items():
            column.append(row.get(name))
        self._bytes += len(shot.image)

    @property
    def is_full(self) -> bool:
        """Whether the rows take as much memory as a piece may."""
        return self._bytes >= PIECE_BYTES

    def table(self) -> pa.Table:
        """Return the rows so far."""
        return pa.table(self._columns, schema=self.schema)


def shown_name(path: Path, folder: Path) -> str:
    """Return a file's path below a folder as text, with `/` between its parts."""
    return readable(path.relative_to(folder).as_posix())
