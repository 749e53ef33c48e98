"""Where a table begins: titles above the names, tables without names, and numbers as people write them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deeptune.importing import Options, import_data
from deeptune.importing.headers import find_header

ROWS = [f"{i},a text of some length number {i},{'good' if i % 3 else 'bad'},{i / 2}" for i in range(30)]
NAMES = "id,review,opinion,score"


def imported(tmp_path, content, **options):
    source = tmp_path / "t.csv"
    source.write_text(content)
    done = import_data(source, tmp_path / "out.parquet", Options(**options))
    return pq.read_table(tmp_path / "out.parquet"), done


@pytest.mark.parametrize(
    "above",
    [
        [],
        ["Export of the clinic"],
        ["# made by a tool", "# version 2"],
        ["Export,,,", "as of 2026-01-02,,,", ",,,"],
        ["Patient,,Result,"],  # a cell over several columns
    ],
)
def test_rows_above_the_names_are_left_out(tmp_path, above):
    table, done = imported(tmp_path, "\n".join([*above, NAMES, *ROWS]) + "\n")
    assert table.column_names[:4] == NAMES.split(",")
    assert table.num_rows == len(ROWS)
    assert table["score"].type == pa.float64()
    assert any("above the names" in note for note in done.notes) == bool(above)


def test_a_table_without_names_keeps_its_first_row(tmp_path):
    table, done = imported(tmp_path, "\n".join(ROWS) + "\n")
    assert table.num_rows == len(ROWS)
    assert table.column_names[:4] == [f"column_{i}" for i in range(1, 5)]
    assert any("no row of names" in note for note in done.notes)


@pytest.mark.parametrize("header", [True, False])
def test_a_person_may_say_whether_there_are_names(tmp_path, header):
    table, _ = imported(tmp_path, "\n".join([NAMES, *ROWS]) + "\n", header=header)
    assert table.num_rows == len(ROWS) + (not header)
    assert ("review" in table.column_names) == header


def test_names_that_look_like_values_stay_names():
    years = [["country", "2019", "2020", "2021"], ["A", "1.5", "2.5", "3.5"], ["B", "1.6", "2.7", "3.8"]]
    assert find_header(years, None).names == years[0]
    pixels = [["label", "0", "1", "2"], ["7", "0", "128", "255"], ["3", "0", "64", "0"]]
    assert find_header(pixels, None).names == pixels[0]
    words = [["text", "label"], ["great", "good"], ["awful", "bad"], ["nice", "good"]]
    assert find_header(words, None).names == words[0]


def test_names_that_are_repeated_within_the_file_are_left_out(tmp_path):
    table, done = imported(tmp_path, "\n".join([NAMES, *ROWS[:10], NAMES, *ROWS[10:]]) + "\n")
    assert table.num_rows == len(ROWS)
    assert table["score"].type == pa.float64()
    assert done.reasons == [("repeats the names of the columns", 1)]


@pytest.mark.parametrize(
    ("delimiter", "values", "expected"),
    [
        (";", ["1.234,5", "12,25", "7"], [1234.5, 12.25, 7.0]),
        (";", ["1,5", "2,25", "-3"], [1.5, 2.25, -3.0]),
        (",", ['"1,234.5"', '"12,000"', "7.25"], [1234.5, 12000.0, 7.25]),
        (",", ["1.234", "2.5", "3"], [1.234, 2.5, 3.0]),
    ],
)
def test_marks_of_thousands_and_decimals(tmp_path, delimiter, values, expected):
    lines = [delimiter.join(["text", "price"]), *(delimiter.join(["a b c", value]) for value in values * 5)]
    table, _ = imported(tmp_path, "\n".join(lines) + "\n")
    assert table["price"].to_pylist() == expected * 5
