"""The interface of a modality: a kind of samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import sample_parts
from deeptune.data.images.bit_depth import Range
from deeptune.data.shown import ShownSample
from deeptune.spec.modalities import Input, ModalityInfo

if TYPE_CHECKING:
    from deeptune.data.sources.source import Source

# Flags of a stored row. A row with BAD has no sample, one with BLANK an empty one; DEEP rows hold their range.
BAD, BLANK, CUT, NOT_UTF8, DEEP, CLIPPED, SECOND = 1, 2, 4, 8, 16, 32, 64
FIRST_ROWS = 16  # first rows, which tell whether bytes are text and whether a column names files

# Why a sample can't be used; or the range of an image that needs one; or whether values were clipped.
SampleCheck = str | Range | bool | None


@dataclass(frozen=True)
class Need:
    """The form in which images must be kept.

    With `augmented`, training changes whole images. Values of more than 8 bits are scaled from `value_range`; without
    one, such images are listed in `deep`.
    """

    augmented: bool = False
    value_range: Range | None = None


NO_NEED = Need()


@dataclass(frozen=True)
class Piece:
    """Consecutive values of the input columns, as bytes or strings, by column.

    `unread` says, by place, why the file that a row names can't be read.
    """

    columns: Mapping[str, pa.Array]
    unread: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def values(self) -> pa.Array:
        """The values of the first column."""
        return next(iter(self.columns.values()))

    def take(self, places: np.ndarray) -> Piece:
        kept = {new: self.unread[old] for new, old in enumerate(places.tolist()) if old in self.unread}
        return Piece({name: values.take(pa.array(places)) for name, values in self.columns.items()}, kept)


class Modality(ABC):
    """One kind of samples. `info` is what is known of it before data is read."""

    info: ModalityInfo

    @abstractmethod
    def parts(self, input: Input) -> dict[str, tuple[ColumnModality, Input]]:
        """Return the kinds of samples that this is made of, by name, each with its input columns."""

    def attach_files(self, source: Source, input: Input) -> None:
        """Make the files that an input column names a part of the data."""
        for modality, columns in self.parts(input).values():
            modality.attach_files(source, columns)

    @abstractmethod
    def piece(self, source: Source, columns: Mapping[str, pa.Array], first: int, threads: ThreadPoolExecutor) -> Piece:
        """Return values of the input columns as bytes or strings, of which the first is of the row `first`."""

    @abstractmethod
    def findings(
        self, piece: Piece, threads: ThreadPoolExecutor, value_range: Range | None = None
    ) -> Sequence[SampleCheck]:
        """Return the finding for each sample."""

    # Viewers.

    @abstractmethod
    def shown(
        self,
        source: Source,
        columns: Mapping[str, pa.Array],
        row: int,
        *,
        value_range: Range | None,
        pixels: int | None = None,
    ) -> ShownSample:
        """Return the sample of a row for a viewer, from columns that hold this row alone.

        With `pixels` an image has at most as many on a side. Raises DataError with a short reason.
        """

    def preview_range(self, source: Source, input: Input) -> Range | None:
        """Return the range of values that the first samples have, where a viewer needs one."""
        return None

    def lengths(self, source: Source, input: Input) -> tuple[int, int, int] | None:
        """Return median, 95th percentile and longest of the first samples, in characters.

        Returns None where they have no length.
        """
        return None


class ColumnModality(Modality):
    """One kind of samples that a column holds, or several columns of the same kind."""

    def parts(self, input: Input) -> dict[str, tuple[ColumnModality, Input]]:
        return {self.info.name: (self, input)}

    def attach_files(self, source: Source, input: Input) -> None:
        return

    @abstractmethod
    def takes(self, kind: pa.DataType) -> bool:
        """Check whether a column of an Arrow type may hold such samples."""

    @abstractmethod
    def usual(self, kind: pa.DataType) -> bool:
        """Check whether a column of an Arrow type holds such samples unless its values say otherwise."""

    @abstractmethod
    def recognises(self, values: pa.Array | pa.ChunkedArray) -> bool:
        """Check whether the first values of a column are such samples."""

    @abstractmethod
    def likeliest(self, names: Sequence[str], first: Mapping[str, pa.Array]) -> Input:
        """Find which of some columns is most likely the input, or which several are it together.

        `first` has their first values, where these were read.
        """

    @abstractmethod
    def column(self, samples: Sequence[Any]) -> pa.Array:
        """Return samples that a Python program holds as an input column.

        Raises DataError that begins with the row, where a sample is none of this kind.
        """


def is_missing(sample: Any) -> bool:
    """Check whether a Python value stands for a sample that is not there: None, NaN, or pandas' NA."""
    return sample is None or (isinstance(sample, float) and math.isnan(sample)) or type(sample).__name__ == "NAType"


def input_values(values: pa.Array) -> pa.Array:
    """Return values of an input column that names no files, as bytes or strings."""
    parts = sample_parts(values)
    return pc.struct_field(parts, "bytes") if pt.is_struct(parts.type) else parts


def named_reasons(found: Mapping[str, SampleCheck]) -> str | None:
    """Say why a sample can't be used, by its columns: each reason with its column; None where there is none."""
    reasons = [f"{reason} (column {name!r})" for name, reason in found.items() if isinstance(reason, str)]
    return " and ".join(reasons) or None
