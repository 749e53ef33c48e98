"""Images: encoded bytes, or the names of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import bare, bare_values, is_bytes, is_text, is_uuid, sample_parts, text_of
from deeptune.data.images.bit_depth import Range
from deeptune.data.images.column_values import MAX_NAME, file_named, image_bytes, look_like_images
from deeptune.data.images.decode import RangeUnknown, decode_quietly
from deeptune.data.images.decoding_threads import each_image
from deeptune.data.images.encode import encoded
from deeptune.data.images.preview import range_of_values, shown_image, small_image
from deeptune.data.modalities.base import (
    FIRST_ROWS,
    ColumnModality,
    Piece,
    SampleCheck,
    input_values,
    is_missing,
)
from deeptune.data.shown import ShownSample
from deeptune.errors import DataError
from deeptune.spec.modalities import MODALITIES, Input, columns_of

if TYPE_CHECKING:
    from deeptune.data.sources.source import Source


class ImageModality(ColumnModality):
    """Images in a column of encoded bytes, of names of files, or of structs of both."""

    info = MODALITIES["image"]

    def takes(self, kind: pa.DataType) -> bool:
        if is_uuid(kind):
            return False
        kind = bare(kind)
        if not pt.is_struct(kind):
            return is_bytes(kind) or is_text(kind)
        fields = {one.name: one.type for one in kind}
        if len(fields) < kind.num_fields:
            return False  # two of one name: nobody knows which is meant
        if not pt.is_null(fields.get("bytes", pa.null())):
            return is_bytes(fields["bytes"])
        return "path" in fields and is_text(fields["path"])

    def usual(self, kind: pa.DataType) -> bool:
        return self.takes(kind) and not is_text(bare(kind))

    def recognises(self, values: pa.Array | pa.ChunkedArray) -> bool:
        if not self.takes(values.type):
            return False
        return pt.is_struct(bare(values.type)) or look_like_images(_beginnings(values))

    def likeliest(self, names: Sequence[str], first: Mapping[str, pa.Array]) -> str:
        return names[0]

    def attach_files(self, source: Source, input: Input) -> None:
        """Attach the files to a source whose input column is one of names.

        Names are strings, bytes that are such strings, or structs of which a first row names a file and has no bytes.
        """
        (column,) = columns_of(input)
        parts = sample_parts(source.head([column], FIRST_ROWS).column(0))
        if pt.is_struct(parts.type):
            names = any(file_named({"path": name}, source.folder_of(0)) for name in _paths_alone(parts).values())
        else:
            names = is_text(parts.type) or look_like_images(_beginnings(parts))
        if names:
            source.read_files_named_in(column)

    def column(self, samples: Sequence[Any]) -> pa.Array:
        """Return encoded bytes, or names of files: all alike, as in a file."""
        found = [_encoded(row, sample) for row, sample in enumerate(samples)]
        kinds = {type(one): row for row, one in reversed([*enumerate(found)]) if one is not None}
        if len(kinds) > 1:
            first, other = sorted(kinds.values())[:2]
            raise DataError(
                f"row {first} is {_KINDS[type(found[first])]} and row {other} is {_KINDS[type(found[other])]}",
                hint="Give all images alike: as names of files, or as images.",
            )
        return pa.array(found, _ARROW.get(next(iter(kinds), bytes)))

    def piece(self, source: Source, columns: Mapping[str, pa.Array], first: int, threads: ThreadPoolExecutor) -> Piece:
        ((name, values),) = columns.items()
        if source.named is not None:
            return _read(name, image_values(source, values), source.folder_of(first), threads)
        return Piece({name: input_values(values)}, _unread(values) if pt.is_struct(bare(values.type)) else {})

    def findings(
        self, piece: Piece, threads: ThreadPoolExecutor, value_range: Range | None = None
    ) -> Sequence[SampleCheck]:
        """Decode each image, and say why one can't be used. JPEG is decoded at an eighth of its size."""

        def finding(value: pa.Scalar) -> SampleCheck:
            try:
                return decode_quietly(value.as_py(), least=1, value_range=value_range).clipped
            except RangeUnknown as error:
                return error.extremes
            except DataError as error:
                return error.message

        return [piece.unread.get(at, one) for at, one in enumerate(each_image(finding, piece.values, threads))]

    def shown(
        self,
        source: Source,
        columns: Mapping[str, pa.Array],
        row: int,
        *,
        value_range: Range | None,
        pixels: int | None = None,
    ) -> ShownSample:
        (values,) = columns.values()
        value, folder = image_values(source, values)[0].as_py(), source.folder_of(row)
        if pixels is not None:
            return ShownSample(image=small_image(value, folder, value_range, pixels))
        found = shown_image(value, folder, value_range)
        if found is None:
            raise DataError("is null")
        return ShownSample(image=found)

    def preview_range(self, source: Source, input: Input) -> Range | None:
        values = image_values(source, source.head(columns_of(input), FIRST_ROWS).column(0))
        return range_of_values(values.to_pylist(), source.folder_of(0))


def image_values(source: Source, values: pa.Array) -> pa.Array:
    """Return values of a column of images as `image_bytes` takes them."""
    parts = sample_parts(values)
    return text_of(parts) if source.named is not None else parts


def _beginnings(values: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """Return the beginnings of strings, or of bytes that are text: as much of them as a file's name may have."""
    values = bare_values(values)
    if is_bytes(values.type):
        return text_of(pc.binary_slice(values, 0, MAX_NAME)).to_pylist()
    return pc.utf8_slice_codeunits(values, 0, MAX_NAME).to_pylist()


def _paths_alone(structs: pa.Array) -> dict[int, str]:
    """Return, by place, the path in structs that have no bytes."""
    names = [one.name for one in structs.type]
    if "path" not in names:
        return {}
    paths = pc.struct_field(structs, "path").to_pylist()
    held = pc.is_valid(pc.struct_field(structs, "bytes")).to_pylist() if "bytes" in names else [False] * len(paths)
    return {place: path for place, path in enumerate(paths) if path and not held[place]}


def _unread(structs: pa.Array) -> dict[int, str]:
    """Find which structs without bytes name a file, though the first rows do not."""
    return {
        place: f"has no bytes, and its path {name!r} is not read, as the first rows have bytes: write all alike"
        for place, name in _paths_alone(sample_parts(structs)).items()
    }


def _read(name: str, values: pa.Array, folder: Path, threads: ThreadPoolExecutor) -> Piece:
    """Return the content of the files that values name."""

    def read(value: pa.Scalar) -> bytes | DataError | None:
        try:
            return image_bytes(value.as_py(), folder)
        except DataError as error:
            return error

    found = each_image(read, values, threads)
    unread = {place: one.message for place, one in enumerate(found) if isinstance(one, DataError)}
    content = pa.array([None if isinstance(one, DataError) else one for one in found], pa.large_binary())
    return Piece({name: content}, unread)


_KINDS: dict[type, str] = {bytes: "an image", str: "the name of a file", dict: "a dictionary"}
_ARROW: dict[type, pa.DataType] = {bytes: pa.large_binary(), str: pa.large_string()}


def _encoded(row: int, sample: Any) -> bytes | str | dict[str, Any] | None:
    try:
        return None if is_missing(sample) else encoded(sample)
    except DataError as error:
        raise DataError(f"row {row} {error.message}", hint=error.hint) from None
