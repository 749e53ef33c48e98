"""Writing an assignment: a file for each split, or one file with a column for each assignment."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deeptune.data.splits.assignments import Assignment, names_of
from deeptune.errors import SpecError, listed
from deeptune.runs.files import replacing, write_json
from deeptune.spec.run_spec import SPLITS

_ROWS = 4096


def write_files(found: Assignment, folder: Path, facts: dict[str, Any]) -> list[Path]:
    """Write `train.parquet`, `val.parquet` and `test.parquet` into a folder, but for those without rows.

    A file that is there of a split without rows is removed: its rows are in another split now.
    `splits.parquet` has the split of each row of the source, `labels.json` the classes in the order of their index,
    and `split.json` the `facts`. Raises CheckpointError where they can't be written.
    """
    (codes,) = found.columns.values()
    there = [split for code, split in enumerate(SPLITS) if (codes == code).any()]
    files = [folder / f"{split}.parquet" for split in there]
    schema = _schema(found)
    with ExitStack() as stack:
        writers = {}
        for split, file in zip(there, files, strict=True):
            temporary = stack.enter_context(replacing(file))
            writers[split] = stack.enter_context(pq.ParquetWriter(temporary, schema))
        for first, batch in found.source.stream_table(schema.names, rows=_ROWS):
            for split, writer in writers.items():
                here = codes[first : first + len(batch)] == SPLITS.index(split)
                if here.any():
                    writer.write_batch(batch.filter(pa.array(here)).cast(schema))
    for split in SPLITS:
        if split not in there:
            (folder / f"{split}.parquet").unlink(missing_ok=True)
    with replacing(folder / "splits.parquet") as temporary:
        pq.write_table(_indices(found), temporary)
    write_json(folder / "labels.json", found.task.to_json())
    write_json(folder / "split.json", facts)
    return files


def write_column(found: Assignment, file: Path, facts: dict[str, Any]) -> None:
    """Write the source with a column for each assignment into one file, and the `facts` beside it.

    Raises SpecError where a column is there already.
    """
    there = [name for name in found.columns if name in found.source.column_names]
    if there:
        raise SpecError(
            f"--column: {found.source.describe()} has a column {listed(map(repr, there))} already",
            hint="Choose another name.",
        )
    schema = _schema(found)
    whole = schema
    for name in found.columns:
        whole = whole.append(pa.field(name, pa.string()))
    with replacing(file) as temporary, pq.ParquetWriter(temporary, whole) as writer:
        for first, batch in found.source.stream_table(schema.names, rows=_ROWS):
            here = slice(first, first + len(batch))
            splits = [names_of(codes[here]) for codes in found.columns.values()]
            writer.write_batch(pa.RecordBatch.from_arrays([*batch.cast(schema).columns, *splits], schema=whole))
    write_json(facts_file(file), {**facts, "labels": found.task.to_json()})


def facts_file(file: Path) -> Path:
    """Return the file beside a Parquet file that says how it was split."""
    return file.with_name(f"{file.stem}.split.json")


def _schema(found: Assignment) -> pa.Schema:
    """Return the columns as they are read, with the metadata of the source, such as class names."""
    fields = [found.source.field(name) for name in found.source.column_names]
    return pa.schema(fields, metadata=found.source.schema.metadata)


def _indices(found: Assignment) -> pa.Table:
    columns: dict[str, Any] = {"row": pa.array(np.arange(found.source.num_rows))}
    columns |= {name: names_of(codes) for name, codes in found.columns.items()}
    return pa.table(columns)
