"""The form of embeddings in a file: one column of lists, or a column for each number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deeptune.engine.table_files import CSV
from deeptune.errors import SpecError, did_you_mean

Format = Literal["list", "wide"]
Dtype = Literal["float32", "float16"]


@dataclass(frozen=True)
class EmbeddingForm:
    """`list` is a column `embedding` of fixed-size lists; `wide` are columns `e0`, `e1`, … of numbers.

    Raises SpecError for another word.
    """

    format: Format = "list"
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        for name, value, known in (("format", self.format, get_args(Format)), ("dtype", self.dtype, get_args(Dtype))):
            if value not in known:
                near = did_you_mean(str(value), known)
                raise SpecError(f"{name}: expected {' or '.join(map(repr, known))}, got {value!r}. {near}".rstrip())

    def columns(self, embeddings: pa.FixedSizeListArray) -> dict[pa.Field, pa.Array]:
        """Return the columns of embeddings: a fixed-size list of float32 for each row, null where a row has none."""
        number = pa.float16() if self.dtype == "float16" else pa.float32()
        width = embeddings.type.list_size
        if self.format == "list":
            kind = pa.list_(number, width)
            return {pa.field("embedding", kind): embeddings if kind == embeddings.type else _half(embeddings, kind)}
        values = embeddings.values[embeddings.offset * width : (embeddings.offset + len(embeddings)) * width]
        table = values.to_numpy(zero_copy_only=False).reshape(len(embeddings), width).astype(number.to_pandas_dtype())
        mask = pc.is_null(embeddings).to_numpy(zero_copy_only=False)
        return {
            pa.field(f"e{index}", number): pa.array(np.ascontiguousarray(table[:, index]), number, mask=mask)
            for index in range(width)
        }

    def require_fits(self, output: Path) -> None:
        """Raise SpecError where a file of this name can't hold the form."""
        if output.suffix.lower() == CSV and self.format != "wide":
            raise SpecError(
                f"{output} is a CSV file, which holds no lists",
                hint="Add --format wide, or name a .parquet file.",
            )


LIST = EmbeddingForm()


def _half(embeddings: pa.FixedSizeListArray, kind: pa.DataType) -> pa.Array:
    """Return the same lists of float16; a number beyond its range becomes infinite."""
    width = embeddings.type.list_size
    values = embeddings.values[embeddings.offset * width : (embeddings.offset + len(embeddings)) * width]
    half = pa.array(values.to_numpy(zero_copy_only=False).astype(np.float16), pa.float16())
    mask = pc.is_null(embeddings) if embeddings.null_count else None
    return pa.FixedSizeListArray.from_arrays(half, type=kind, mask=mask)
