"""Importing CSV, spreadsheets, JSON lines and Arrow files: encodings, types, and rows that are left out."""

from __future__ import annotations

import csv
import datetime
import json
import pickle
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png
from pyarrow import ipc

from deeptune.data.sources.parquet import open_source
from deeptune.errors import DataError, SpecError
from deeptune.importing import Options, import_data
from deeptune.importing.csv_files import detect_delimiter, detect_encoding

TEXT = "id;word;text;number\n" + "".join(
    f"{i:03};{'gut' if i % 2 else 'schön'};Größe für {i};{i},5\n" for i in range(40)
)


def imported(tmp_path, name, content, **options):
    source = tmp_path / name
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = import_data(source, tmp_path / "out.parquet", Options(**options))
    return pq.read_table(tmp_path / "out.parquet"), done


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-32"])
def test_an_encoding_is_detected(tmp_path, encoding):
    table, _ = imported(tmp_path, "t.csv", TEXT.encode(encoding))
    assert table["text"][7].as_py() == "Größe für 7"
    assert table["number"].type == pa.float64()
    assert table["number"][3].as_py() == 3.5


def test_russian_in_an_old_encoding_is_read(tmp_path):
    lines = "текст,метка\n" + "".join(f"Сегодня очень хорошая погода в городе {i},да\n" for i in range(40))
    table, _ = imported(tmp_path, "t.csv", lines.encode("cp1251"))
    assert table.column_names == ["текст", "метка"]


def test_a_named_encoding_is_used(tmp_path):
    table, done = imported(tmp_path, "t.csv", "a,b\nŁ,1\n".encode("cp1250"), encoding="cp1250")
    assert table["a"][0].as_py() == "Ł"
    assert "encoding cp1250" in done.notes[0]


def test_an_unknown_encoding_is_an_error(tmp_path):
    with pytest.raises(SpecError, match="no encoding 'klingon'"):
        imported(tmp_path, "t.csv", "a,b\n1,2\n", encoding="klingon")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_delimiter_is_detected(delimiter):
    assert detect_delimiter(delimiter.join("abc") + "\n" + delimiter.join(["1", "x y", "2"]) + "\n") == delimiter


def test_commas_in_texts_are_no_delimiter():
    assert detect_delimiter("text;label\nwell, yes, no;1\na, b;2\n") == ";"


@pytest.mark.parametrize(
    ("values", "kind", "first"),
    [
        (["1", "2", "-3"], pa.int64(), 1),
        (["007", "008", "010"], pa.string(), "007"),
        (["1", "2.5", "1e3"], pa.float64(), 1.0),
        (["1", "NA", "3"], pa.int64(), 1),
        (["NA", "yes", "no"], pa.string(), "NA"),
        (["True", "false", "TRUE"], pa.bool_(), True),
        (["12345678901234567890", "1", "2"], pa.string(), "12345678901234567890"),
        (["+1", "2", "3"], pa.int64(), 1),
    ],
)
def test_a_column_has_the_narrowest_type_that_loses_nothing(tmp_path, values, kind, first):
    table, _ = imported(tmp_path, "t.csv", "a,b\n" + "".join(f"{value},x\n" for value in values))
    assert (table["a"].type, table["a"][0].as_py()) == (kind, first)


def test_empty_values_are_null(tmp_path):
    assert imported(tmp_path, "t.csv", "a,b\n1,\n,x\n")[0].to_pydict() == {"a": [1, None], "b": [None, "x"]}


def test_line_breaks_in_quotes_belong_to_the_text(tmp_path):
    assert imported(tmp_path, "t.csv", 'text,y\n"one\ntwo, three",1\n')[0]["text"].to_pylist() == ["one\ntwo, three"]


def test_ragged_rows_and_nul_characters_are_left_out_with_their_line(tmp_path):
    table, done = imported(tmp_path, "t.csv", "a,b\n1,2\n3\n4,5,6\n7,x\0y\n8,9,,\n")
    assert table.to_pydict() == {"a": [1, 8], "b": [2, 9]}
    with open(done.left_out_file, encoding="utf-8") as file:
        listed = list(csv.reader(file))[1:]
    assert [what for what, _ in listed] == ["line 3", "line 4", "line 5"]
    assert "NUL" in listed[2][1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b,a\n1,2,3\n", "names 'a' twice"),
        ("1,2\n3,4\n", "first row holds numbers"),
        ("", "0 bytes"),
        ("a,b\n", "holds no rows: only the names of columns 'a', 'b'"),
        ("\n  \n", "is empty"),
        (bytes(range(256)) * 20, "not a text file"),
    ],
)
def test_what_is_no_table_is_one_clear_error(tmp_path, content, says):
    with pytest.raises(DataError, match=says):
        imported(tmp_path, "t.csv", content)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"SQLite format 3\0" + b"CREATE TABLE t (text)" * 200, "a SQLite database"),
        (pickle.dumps([1.5] * 9), "a pickle"),
    ],
)
def test_a_table_of_another_tool_is_named_and_not_called_text(tmp_path, content, kind):
    with pytest.raises(DataError, match="of no kind that can be imported") as refused:
        imported(tmp_path, "t.data", content)
    assert str(refused.value.hint).startswith(f"It is {kind}")
    assert "Parquet" in str(refused.value.hint)


def test_a_quotation_mark_that_is_never_closed_does_not_swallow_the_rows_below(tmp_path):
    lines = [f"a film {i}\t{i % 2}" for i in range(9)]
    lines[4] = '"' + lines[4]
    table, done = imported(tmp_path, "t.tsv", "\n".join(["text\ty", *lines]) + "\n")
    assert (table.num_rows, table["text"].to_pylist()[4], done.left_out) == (9, '"a film 4', 0)
    assert any("one in line 6 has no other" in note for note in done.notes)


def test_quotation_marks_around_several_lines_stay_where_one_row_is_wrong(tmp_path):
    table, done = imported(tmp_path, "t.csv", 'text,y\n"one\ntwo",1\n"three\nfour"\nfive,2\n"six\nseven",3\n')
    assert table["text"].to_pylist() == ["one\ntwo", "five", "six\nseven"]
    assert done.reasons == [("are one row with 1 value, and the header has 2", 1)]


def test_a_binary_file_has_no_encoding(tmp_path):
    (tmp_path / "x").write_bytes(png())
    with pytest.raises(DataError, match="not a text file"):
        detect_encoding(tmp_path / "x")


def test_named_columns_get_the_names_that_a_spec_expects(tmp_path):
    table, done = imported(
        tmp_path, "t.csv", "review,mood,who\nfine,good,1\n", input="review", label="mood", group="who"
    )
    assert table.column_names == ["text", "labels", "who"]
    assert done.roles == {"input": "text", "label": "labels", "group": "who"}


def test_a_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"--label.*no column 'mod'.*mood"):
        imported(tmp_path, "t.csv", "review,mood\nfine,good\n", label="mod")


def test_two_columns_of_one_new_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="both be called 'labels'"):
        imported(tmp_path, "t.csv", "text,mood,labels\nfine,good,1\n", label="mood")


def test_a_spreadsheet_keeps_ids_dates_and_numbers(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "cover"
    sheet = book.create_sheet("data")
    sheet.append(["id", "day", "n", "x", "sure"])
    sheet.append(["007", datetime.date(2024, 5, 1), 3, 1.5, True])
    sheet.append(["008", datetime.date(2024, 5, 2), 4, None, False])
    book.save(tmp_path / "t.xlsx")
    done = import_data(tmp_path / "t.xlsx", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"id": "007", "day": "2024-05-01", "n": 3, "x": 1.5, "sure": True},
        {"id": "008", "day": "2024-05-02", "n": 4, "x": None, "sure": False},
    ]
    assert "sheet 'data'; the others are not read: cover" in done.notes[0]


def test_a_sheet_that_is_not_there_is_named(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    openpyxl.Workbook().save(tmp_path / "t.xlsx")
    with pytest.raises(SpecError, match=r"no sheet 'Sheet2'.*Sheet"):
        import_data(tmp_path / "t.xlsx", tmp_path / "out.parquet", Options(sheet="Sheet2"))


def test_a_damaged_spreadsheet_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a spreadsheet"):
        imported(tmp_path, "t.xlsx", b"PK\x03\x04 and no more")


@pytest.mark.parametrize(
    ("content", "says"), [("a,b\n1,2\n", "t.csv"), ("<html><table>", "web page"), (b"PK\0", "cut off")]
)
def test_what_is_no_spreadsheet_says_what_it_is(tmp_path, content, says):
    with pytest.raises(DataError) as caught:
        imported(tmp_path, "t.xlsx", content)
    assert says in str(caught.value.hint)


def test_json_lines_keep_types_and_leave_out_what_is_no_object(tmp_path):
    lines = [{"text": "a", "n": 1, "tags": ["x"]}, {"text": "b", "n": 2.5}, {"text": "c", "more": {"k": 1}}]
    content = "\n".join(map(json.dumps, lines)) + '\n{"text": \n[1]\n'
    table, done = imported(tmp_path, "t.jsonl", content)
    assert table["n"].to_pylist() == [1.0, 2.5, None]
    assert table["tags"].to_pylist() == [["x"], None, None]
    assert done.left_out == 2


def test_values_of_several_types_become_text(tmp_path):
    table, done = imported(tmp_path, "t.jsonl", '{"a": 1}\n{"a": "x"}\n')
    assert table["a"].to_pylist() == ["1", "x"]
    assert any("several types" in note for note in done.notes)


def test_a_json_list_is_rows(tmp_path):
    assert imported(tmp_path, "t.json", '[{"a": 1}, {"a": 2}]')[0]["a"].to_pylist() == [1, 2]


def test_tables_that_are_named_as_splits_keep_them(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"{split}.csv").write_text(f"text,y\n{split},1\n")
    import_data(folder, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert dict(zip(table["text"].to_pylist(), table["split"].to_pylist(), strict=True)) == {
        "train": "train", "valid": "val", "test": "test",
    }  # fmt: skip


def test_several_tables_that_are_no_splits_are_refused(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text("text,y\nx,1\n")
    with pytest.raises(DataError, match=r"holds 2 tables: a\.csv, b\.csv"):
        import_data(folder, tmp_path / "out.parquet")


def _data_set(folder, rows):
    """A split as `datasets.Dataset.save_to_disk` writes it."""
    folder.mkdir(parents=True)
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("image", image), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    columns = [[{"bytes": png(), "path": "a.png"}] * rows, [i % 2 for i in range(rows)]]
    with ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), schema) as stream:
        stream.write_table(pa.table(columns, schema=schema))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def test_a_hugging_face_data_set_keeps_splits_and_class_names(tmp_path):
    for split, rows in (("train", 4), ("validation", 2), ("test", 2)):
        _data_set(tmp_path / "set" / split, rows)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    import_data(tmp_path / "set", tmp_path / "out.parquet", Options(input="image", label="label"))
    source = open_source(str(tmp_path / "out.parquet"))
    assert source.column_names == ["images", "labels", "split"]
    assert source.label_names("labels") == ["cat", "dog"]
    assert source.column("split").to_pylist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 2


def test_rows_of_a_split_of_another_name_are_in_none_and_the_others_keep_theirs(tmp_path):
    for split, rows in (("train", 4), ("test", 2), ("unsupervised", 3)):
        _data_set(tmp_path / "set" / split, rows)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test", "unsupervised"]}')
    done = import_data(tmp_path / "set", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["split"].to_pylist() == ["train"] * 4 + ["test"] * 2 + [None] * 3
    assert "rows of unsupervised are in none of train, val and test: a run leaves them out" in done.notes


def test_folders_of_configurations_are_told(tmp_path):
    for name in ("plain/train-0.parquet", "plain/test-0.parquet", "big/train-0.parquet"):
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "hub" / name)
    done = import_data(tmp_path / "hub", tmp_path / "out.parquet")
    assert done.notes[0] == "the splits are kept: train of 2 files, test of 1 file"
    assert done.notes[1].startswith("the files of big, plain are read as one table")


def test_a_cut_off_arrow_file_is_one_clear_error(tmp_path):
    _data_set(tmp_path / "set", 4)
    file = tmp_path / "set" / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        import_data(tmp_path / "set", tmp_path / "out.parquet")


def test_an_open_document_sheet_is_read(tmp_path):
    cells = [["id", "n"], ["007", "3"], ["008", "4"]]
    rows = "".join(
        "<table:table-row>"
        + f'<table:table-cell office:value-type="string"><text:p>{name}</text:p></table:table-cell>'
        + (
            f'<table:table-cell office:value-type="float" office:value="{n}"><text:p>{n}</text:p></table:table-cell>'
            if n.isdigit()
            else f'<table:table-cell office:value-type="string"><text:p>{n}</text:p></table:table-cell>'
        )
        + "</table:table-row>"
        for name, n in cells
    )
    names = "".join(
        f' xmlns:{one}="urn:oasis:names:tc:opendocument:xmlns:{one}:1.0"' for one in ("office", "table", "text")
    )
    body = f'<office:body><office:spreadsheet><table:table table:name="s">{rows}</table:table></office:spreadsheet>'
    with zipfile.ZipFile(tmp_path / "t.ods", "w") as file:
        file.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        file.writestr("META-INF/manifest.xml", "<manifest/>")
        file.writestr("content.xml", f"<office:document-content{names}>{body}</office:body></office:document-content>")
    import_data(tmp_path / "t.ods", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [{"id": "007", "n": 3}, {"id": "008", "n": 4}]


def test_run_ends_are_written_as_the_values_that_they_stand_for(tmp_path):
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([300, 600], pa.int32()), pa.array(["a", None]))
    table = pa.table({"n": list(range(600)), "labels": runs})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=256)
    import_data(tmp_path / "a.arrow", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["labels"].to_pylist() == ["a"] * 300 + [None] * 300


@pytest.mark.parametrize(
    "column",
    [
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
        pa.array([(1, 2, 3)] * 2, pa.month_day_nano_interval()),
        pa.array([{}] * 2, pa.struct([])),
    ],
)
def test_a_column_that_parquet_cannot_hold_is_named(tmp_path, column):
    table = pa.table({"text": ["a", "b"], "it": column})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table)
    with pytest.raises(DataError, match=r"column 'it' of .*a.arrow is .*, which no Parquet file can hold"):
        import_data(tmp_path / "a.arrow", tmp_path / "out.parquet")


def test_a_row_with_half_a_character_is_left_out_with_its_place(tmp_path):
    half, smile = b"\xed\xa0\xbd", b"\xed\xa0\xbd\xed\xb8\x80"  # one of two halves alone, and both, as Java writes them
    (tmp_path / "a.csv").write_bytes(b"text,label\nf\xc3\xa4n,a\nbad " + half + b",b\nnice " + smile + b",c\n")
    found = import_data(tmp_path / "a.csv", tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet")["text"].to_pylist() == ["f\u00e4n", "nice \U0001f600"]
    assert found.reasons == [("holds half a character, which no text in UTF-8 can hold", 1)]

    lines = [r'{"text": "a", "n": [1]}', r'{"text": "b \ud83d", "n": [2]}', r'{"text": "c \ud83d\ude00", "n": [3]}']
    for name, content in (("b.jsonl", "\n".join(lines)), ("c.json", f"[{','.join(lines)}]")):
        (tmp_path / name).write_text(content)
        found = import_data(tmp_path / name, tmp_path / "b.parquet")
        assert pq.read_table(tmp_path / "b.parquet")["text"].to_pylist() == ["a", "c \U0001f600"]
        assert found.left_out == 1
