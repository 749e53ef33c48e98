"""The columns that go from the data into the tables of embeddings, beside what a model says of a row."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from deeptune.data.sources.source import Source
from deeptune.errors import DataError, first_line
from deeptune.spec.modalities import Input, columns_of

OURS = ("row", "label", "embedding", "error")  # columns that a table of embeddings has of its own
_ROWS = 16  # rows that are tried


def kept_columns(source: Source, *, input: Input, label: Input | None) -> dict[str, str]:
    """Name each column that is neither input nor label in a table of embeddings.

    The name is its own, or with `_in_source` where the table has a column of that name.
    """
    ours = {*columns_of(input), *columns_of(label or [])}
    names = [name for name in dict.fromkeys(source.column_names) if name not in ours]
    taken = {*OURS, *names}
    found = {}
    for name in names:
        shown = name
        while shown in OURS or (shown != name and shown in taken):
            shown += "_in_source"
        taken.add(shown)
        found[name] = shown
    return found


def require_kept(source: Source, *, input: Input, label: Input | None) -> None:
    """Raise DataError where a table of embeddings could not hold the columns of a source.

    It can hold neither two columns of one name nor types that Arrow does not write. Of types that have others within,
    the first rows are tried.
    """
    names = [*kept_columns(source, input=input, label=label), *columns_of(label or [])]
    source.require_all(names)
    made_of_others = [name for name in names if _made_of_others(source.types[name])]
    tried = source.head(made_of_others, _ROWS) if made_of_others else None
    if tried is None or _refusal(tried) is None:
        return
    for name in made_of_others:
        reason = _refusal(tried.select([name]))
        if reason is not None:
            kind = source.schema.field(name).type
            raise DataError(
                f"{source.key}: column {name!r} of {source.describe()} is {kind}, which cannot be written beside the "
                f"embeddings: {reason}",
                hint="Leave the column out of the file, or cast it to another type.",
            )


def _made_of_others(kind: pa.DataType) -> bool:
    return pt.is_nested(kind) or pt.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType)


def _refusal(table: pa.Table) -> str | None:
    """Say why Arrow does not write some columns to Parquet."""
    try:
        pq.write_table(table, io.BytesIO())
    except (ValueError, NotImplementedError, pa.ArrowException) as error:
        return first_line(error)
    return None
