"""One table of several Parquet files: the type that each column is read in, where the files differ too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deeptune.arrow import keeps_all, promote, shared
from deeptune.data.sources.column_stream import stream_columns
from deeptune.data.sources.parquet_footer import Footer
from deeptune.errors import DataError

Reading = Callable[[Path, str], AbstractContextManager[None]]  # what a read of something of a file happens in


class ColumnsDiffer(DataError):
    """A column that is not in every file, or that no type holds in all of them."""


@dataclass(frozen=True)
class Agreement:
    """The columns that files have in common.

    `schema` has the types that the files declare, and where they differ the one that holds them all. `types` are those
    to read in (`arrow.py`), by name. `refused` are the columns that some file lacks or has in another type: the error
    to raise where one is used, by name. `timestamps` is the unit of INT96: nanoseconds, or microseconds where a date is
    outside of the years 1677 to 2262, of which Arrow would otherwise make another date.
    """

    schema: pa.Schema
    types: dict[str, pa.DataType]
    refused: dict[str, ColumnsDiffer]
    timestamps: str


def agree(files: Sequence[Path], footers: Sequence[Footer], *, key: str, reading: Reading) -> Agreement:
    """Find what files have in common.

    Their values are read only where these decide: of INT96, and of types that are not simply wider than others. Raises
    DataError where a file can't be read, and ColumnsDiffer where no column is left.
    """
    beyond = any(_beyond_nanoseconds(file, footer, reading) for file, footer in zip(files, footers, strict=True))
    timestamps = "us" if beyond else "ns"
    schemas = [_read_schema(file, footer, timestamps) for file, footer in zip(files, footers, strict=True)]
    first = schemas[0]
    others = [at for at, schema in enumerate(schemas) if not schema.equals(first)]
    refused: dict[str, ColumnsDiffer] = {}
    for at in others:
        refused = _missing_columns(files[0], first, files[at], schemas[at], key) | refused
    types: dict[str, pa.DataType] = {}
    fields = []
    for field in first:
        if field.name in refused:
            continue
        kinds = {files[0]: _first(first, field.name)}
        kinds |= {files[at]: _first(schemas[at], field.name) for at in others}
        if field.name not in types:
            try:
                types[field.name] = _agreed_type(field.name, kinds, timestamps, key, reading)
            except ColumnsDiffer as error:
                refused[field.name] = error
                continue
        same = all(kind == field.type for kind in kinds.values())
        fields.append(field if same else field.with_type(types[field.name]))
    if refused and not fields:
        raise next(iter(refused.values()))
    return Agreement(pa.schema(fields, metadata=first.metadata), types, refused, timestamps)


def _read_schema(file: Path, footer: Footer, timestamps: str) -> pa.Schema:
    """Return the types that Arrow reads the columns of a file in."""
    if timestamps == "ns" or not footer.int96:
        return footer.schema
    with pq.ParquetFile(file, coerce_int96_timestamp_unit=timestamps) as parquet:
        return parquet.schema_arrow


def _first(schema: pa.Schema, name: str) -> pa.DataType:
    """Return the type of the first column of a name."""
    return schema.field(schema.get_all_field_indices(name)[0]).type


def _missing_columns(
    first: Path, expected: pa.Schema, file: Path, schema: pa.Schema, key: str
) -> dict[str, ColumnsDiffer]:
    """Return an error for each column that only one of two files has."""
    hint = "Write it into all files, or name the files that have it."
    ours, theirs = set(expected.names), set(schema.names)
    lacking = [(name, first, file) for name in expected.names if name not in theirs]
    lacking += [(name, file, first) for name in schema.names if name not in ours]
    return {
        name: ColumnsDiffer(f"{key}: column {name!r} of {here} is missing in {there}", hint=hint)
        for name, here, there in lacking
    }


def _agreed_type(name: str, kinds: dict[Path, pa.DataType], timestamps: str, key: str, reading: Reading) -> pa.DataType:
    found = shared(list(kinds.values()))
    if found is None:
        here, there = _at_odds(kinds)
        raise _differ(name, kinds, here, there, key)
    for file, kind in kinds.items():
        if keeps_all(kind, found):
            continue
        other = next(one for one in kinds if kinds[one] != kind)
        with reading(file, f"column {name!r}"):
            for batch in stream_columns(file, [name], timestamps=timestamps):
                try:
                    promote(batch.column(0), found)
                except pa.ArrowInvalid:
                    raise _differ(name, kinds, file, other, key, f", and as {found} some values would change") from None
    return found


def _at_odds(kinds: dict[Path, pa.DataType]) -> tuple[Path, Path]:
    """Return two files whose types have nothing in common, if there are two such."""
    files = list(kinds)
    pairs = ((here, there) for index, there in enumerate(files) for here in files[:index])
    return next((pair for pair in pairs if shared([kinds[file] for file in pair]) is None), (files[0], files[-1]))


def _differ(
    name: str, kinds: dict[Path, pa.DataType], here: Path, there: Path, key: str, why: str = ""
) -> ColumnsDiffer:
    first, second = sorted((here, there), key=list(kinds).index)
    return ColumnsDiffer(
        f"{key}: column {name!r} is {kinds[first]} in {first} and {kinds[second]} in {second}{why}",
        hint="Write it in the same type in all files.",
    )


def _beyond_nanoseconds(file: Path, footer: Footer, reading: Reading) -> bool:
    """Check whether an INT96 of a file has a date that 64 bits of nanoseconds do not reach."""
    names = [name for name in footer.int96 if footer.schema.names.count(name) == 1]
    if not names:
        return False
    kinds = [footer.schema.field(name).type for name in names]
    with reading(file, f"column {names[0]!r}"):
        for batch in stream_columns(file, names, timestamps="us"):
            try:
                for values, kind in zip(batch.columns, kinds, strict=True):
                    values.cast(kind)
            except pa.ArrowInvalid:
                return True
    return False
