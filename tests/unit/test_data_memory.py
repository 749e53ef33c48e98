"""A table in memory, behind the interface of a source."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deeptune.data.columns.input_columns import check_samples, resolve_columns
from deeptune.data.sources.memory import MemorySource
from deeptune.data.sources.parquet import open_source
from deeptune.errors import DataError

TABLE = pa.table({"text": ["a", "b", None, "d", "e"], "labels": [0, 1, 0, 1, 0]})


def test_rows_stream_in_pieces_from_any_row():
    pieces = [(row, batch.column(0).to_pylist()) for row, batch in MemorySource(TABLE).stream_table(["text"], rows=2)]
    assert pieces == [(0, ["a", "b"]), (2, [None, "d"]), (4, ["e"])]
    assert [row for row, _ in MemorySource(TABLE).stream("text", start=3, rows=2)] == [3]


def test_columns_are_those_that_a_file_of_the_table_has(tmp_path):
    pq.write_table(TABLE, tmp_path / "data.parquet")
    file, memory = open_source(str(tmp_path / "data.parquet")), MemorySource(TABLE)
    assert memory.column_names == file.column_names
    assert memory.types == file.types
    for name in TABLE.column_names:
        assert memory.column(name).equals(file.column(name))
    assert memory.take("text", np.array([4, 0])).to_pylist() == ["e", "a"]


def test_views_are_read_as_what_arrow_can_take_rows_of():
    source = MemorySource(pa.table({"text": pa.array(["a", "b"], pa.string_view())}))
    assert source.take("text", np.array([1])).to_pylist() == ["b"]


def test_the_fingerprint_is_of_the_rows_and_not_of_their_chunks():
    chunked = pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2)])
    assert MemorySource(TABLE).fingerprint() == MemorySource(chunked).fingerprint()
    assert MemorySource(TABLE.slice(1)).fingerprint() != MemorySource(TABLE).fingerprint()
    again = pa.concat_tables([TABLE, TABLE]).slice(5)
    assert MemorySource(again).fingerprint() == MemorySource(TABLE).fingerprint()


def test_samples_are_checked_and_a_message_names_the_argument():
    source = MemorySource(TABLE, key="x")
    assert resolve_columns(source) == ("text", "text")
    assert check_samples(source, "text", "text").reasons == {2: "is null"}
    with pytest.raises(DataError, match=r"there is no column 'txt' in `x`"):
        source.column("txt")
