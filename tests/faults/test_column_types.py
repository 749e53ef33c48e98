"""Groups, labels, texts and pictures in columns of single types, and the files and shards that hold them."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
import pytest
from faults.columns_in_runs import LABELS, PATIENTS, ROWS, TEXTS, embeddings_of, planned, spec_of, write
from pictures import png

from deeptune.data.inspect import overview, preview, survey
from deeptune.data.sources import column_stream
from deeptune.data.sources.parquet import open_source
from deeptune.data.sources.source import Source
from deeptune.data.splits.plan import DataPlan
from deeptune.data.splits.planner import plan_data
from deeptune.errors import DataError
from deeptune.spec.toml import validate

# Single kinds.


def plan_of(tmp_path: Path, **given_columns: Any) -> DataPlan:
    data = given_columns.pop("data", {})
    file = write(tmp_path / "a.parquet", {"text": TEXTS, "labels": LABELS, **given_columns})
    return plan_data(spec_of(file, **data))


def test_groups_by_uuid_stay_together_and_stay_uuids(tmp_path):
    plan = plan_of(tmp_path, who=PATIENTS, data={"group": "who"})
    found = plan.splits_table()
    assert found.schema.field("group").type == pa.uuid()
    where: dict[int, set[str]] = {}
    for row, split in zip(found["row"].to_pylist(), found["split"].to_pylist(), strict=True):
        where.setdefault(row // 2, set()).add(split)
    assert all(len(splits) == 1 for splits in where.values())


@pytest.mark.parametrize(
    "groups",
    [
        pa.array([2**63 + row // 2 for row in range(ROWS)], pa.uint64()),
        pa.array([f"1{'0' * 20}.{row // 2:02}" for row in range(ROWS)]).cast(pa.decimal128(38, 2)),
        pa.array([10**18 + row // 2 for row in range(ROWS)], pa.timestamp("ns")),
    ],
    ids=["uint64", "decimal", "nanoseconds"],
)
def test_groups_that_are_alike_as_floating_point_numbers_are_told_apart(tmp_path, groups):
    plan = plan_of(tmp_path, who=groups, data={"group": "who"})
    assert len(plan.splits_table()["group"].unique()) == ROWS // 2


def test_a_group_in_two_files_of_different_types_is_known(tmp_path):
    for name, kind in (("train", pa.int32()), ("test", pa.int64())):
        who = pa.array([row // 2 for row in range(ROWS)], kind)
        write(tmp_path / f"{name}.parquet", {"text": TEXTS, "labels": LABELS, "who": who})
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("train", "test")}
    spec = validate({"data": {**paths, "group": "who"}, "backbone": {"name": "resnet18"}})
    with pytest.raises(DataError, match=r"groups that are in data\.test and in data\.train: 0, 1, 2"):
        plan_data(spec)


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ([label.encode() for label in LABELS], ("bad", "good")),
        (pa.array([label.encode() for label in LABELS]).dictionary_encode(), ("bad", "good")),
        (pa.array([b"abc", b"xyz"] * (ROWS // 2), pa.binary(3)), ("abc", "xyz")),
        (pa.array([row % 2 for row in range(ROWS)], pa.decimal128(38, 0)), (0, 1)),
        (pa.array([row % 2 for row in range(ROWS)], pa.uint64()), (0, 1)),
    ],
    ids=["binary", "dictionary of binary", "fixed size", "decimal", "uint64"],
)
def test_labels_are_what_their_values_mean(tmp_path, labels, values):
    assert plan_of(tmp_path, labels=labels).task.values == values


def test_decimals_are_numbers(tmp_path):
    labels = pa.array([f"{row}.25" for row in range(ROWS)]).cast(pa.decimal128(12, 2))
    file = write(tmp_path / "a.parquet", {"text": TEXTS, "labels": labels})
    plan = plan_data(spec_of(file, task="regression"))
    targets = np.concatenate([split.targets for split in plan.splits.values()])
    assert sorted(targets) == [row + 0.25 for row in range(ROWS)]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())], ids=str
)
def test_text_in_bytes_is_text(tmp_path, kind):
    texts = pa.array([text.encode() for text in TEXTS])
    texts = texts.dictionary_encode() if pt.is_dictionary(kind) else texts.cast(kind)
    for name in ("text", "review"):
        file = write(tmp_path / "a.parquet", {name: texts, "labels": LABELS})
        plan = planned(spec_of(file, input=name))
        assert (plan.modality, plan.bad_samples) == ("text", [])


def test_bytes_of_which_some_are_no_text_are_told_by_row(tmp_path):
    texts = [*(text.encode() for text in TEXTS[:-1]), "café".encode("latin-1")]
    file = write(tmp_path / "a.parquet", {"text": texts, "labels": LABELS})
    plan = planned(spec_of(file, on_bad_sample="skip"))
    assert [(bad.row, bad.reason) for bad in plan.bad_samples] == [(ROWS - 1, "is not UTF-8 text")]


@pytest.mark.parametrize("layout", ["dictionary", "large", "view", "struct of views", "dictionary in a struct"])
def test_pictures_in_any_layout_of_bytes_are_pictures(tmp_path, layout):
    pictures = pa.array([png(colour=[(200, 30, 30), (30, 30, 200)][row % 2]) for row in range(ROWS)])
    encoded = pictures.dictionary_encode()
    images = {
        "dictionary": encoded,
        "large": pictures.cast(pa.large_binary()),
        "view": pictures.cast(pa.binary_view()),
        "struct of views": pa.StructArray.from_arrays([pictures.cast(pa.binary_view())], names=["bytes"]),
        "dictionary in a struct": pa.StructArray.from_arrays([encoded], names=["bytes"]),
    }[layout]
    file = write(tmp_path / "a.parquet", {"images": images, "labels": LABELS})
    plan = plan_data(spec_of(file))
    assert (plan.modality, plan.bad_samples) == ("image", [])


@pytest.mark.parametrize("named", [False, True], ids=["bytes", "files"])
def test_what_else_a_struct_holds_does_not_matter(tmp_path, named):
    pictures = [png(colour=[(200, 30, 30), (30, 30, 200)][row % 2]) for row in range(ROWS)]
    for row, picture in enumerate(pictures):
        (tmp_path / f"{row}.png").write_bytes(picture)
    images = pa.StructArray.from_arrays(
        [
            pa.nulls(ROWS) if named else pa.array(pictures),
            pa.array([f"{row}.png" for row in range(ROWS)], pa.string_view()),
            pa.array(range(1, ROWS + 1), pa.timestamp("ns")),
            pa.array([10**7] * ROWS, pa.date32()),
        ],
        names=["bytes", "path", "taken", "due"],
    )
    file = write(tmp_path / "a.parquet", {"images": images, "labels": LABELS})
    plan = plan_data(spec_of(file))
    assert (plan.modality, plan.bad_samples) == ("image", [])
    assert preview(str(file), "images", "labels", start=1, count=1)[0].image == pictures[1]


# Several files.


def shards(folder: Path, *its: Any) -> Source:
    for at, it in enumerate(its):
        write(folder / f"{at}.parquet", {"it": it})
    return open_source(str(folder))


@pytest.mark.parametrize(
    ("one", "other", "values"),
    [
        (["checked"], pa.nulls(2), ["checked", None, None]),
        (pa.nulls(1), pa.array(["x"]).dictionary_encode(), [None, "x"]),
        (["a"], pa.array(["b"]).dictionary_encode(), ["a", "b"]),
        (["a"], pa.array(["b"], pa.string_view()), ["a", "b"]),
        ([{"a": "x"}], pa.array([{"a": "y"}], pa.struct([("a", pa.large_string())])), [{"a": "x"}, {"a": "y"}]),
        (pa.array([1], pa.int32()), [2**40], [1, 2**40]),
        ([1, 2], [0.5, None], [1.0, 2.0, 0.5, None]),
        ([[1]], pa.array([[2]], pa.large_list(pa.int8())), [[1], [2]]),
    ],
)
def test_shards_whose_types_differ_without_loss_are_one_table(tmp_path, one, other, values):
    source = shards(tmp_path, one, other)
    assert source.column("it").to_pylist() == values
    assert source.take("it", np.arange(len(values))[::-1]).to_pylist() == values[::-1]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ([2**53 + 1], [0.5], "is int64 in {0} and double in {1}, and as double some values would change"),
        (
            pa.array([2**63], pa.uint64()),
            [1],
            "is uint64 in {0} and int64 in {1}, and as int64 some values would change",
        ),
        ([1], ["1"], "is int64 in {0} and string in {1}"),
        ([True], [1], "is bool in {0} and int64 in {1}"),
        (
            [datetime.datetime(9999, 12, 31)],
            pa.array([1], pa.timestamp("ns")),
            "is timestamp[us] in {0} and timestamp[ns] in {1}, and as timestamp[ns] some values would change",
        ),
    ],
)
def test_shards_whose_types_would_lose_values_are_refused(tmp_path, one, other, said):
    with pytest.raises(DataError) as caught:
        shards(tmp_path, one, other)
    said = said.format(tmp_path / "0.parquet", tmp_path / "1.parquet")
    assert caught.value.message == f"data.path: column 'it' {said}"


# Dates.


def test_dates_of_the_old_kind_are_read_in_a_unit_that_reaches_them(tmp_path):
    far, near = datetime.datetime(9999, 12, 31, 23, 59, 59, 5), datetime.datetime(2020, 1, 1)
    for name, dates in (("far", [far, None, near]), ("near", [near])):
        table = pa.table({"it": dates, "nested": [[date] for date in dates]})
        pq.write_table(table, tmp_path / f"{name}.parquet", use_deprecated_int96_timestamps=True)
    one, both = open_source(str(tmp_path / "near.parquet")), open_source(str(tmp_path))
    assert one.types["it"] == pa.timestamp("ns")
    assert both.column("it").to_pylist() == [far, None, near, near]
    assert both.column("nested").to_pylist() == [[far], [None], [near], [near]]


def test_a_person_sees_values_that_python_has_no_type_for(tmp_path):
    days = pa.array([10**7, 3] * (ROWS // 2), pa.date32())
    moments = pa.array(range(ROWS), pa.timestamp("ns"))
    file = write(tmp_path / "a.parquet", {"text": TEXTS, "labels": days, "at": moments})
    assert [sample.label for sample in preview(str(file), "text", "labels", start=0, count=2)] == [
        "29349-01-26", "1970-01-04",
    ]  # fmt: skip
    assert preview(str(file), "text", "at", start=1, count=1)[0].label == "1970-01-01 00:00:00.000000001"


# The look at a file.


def test_the_look_at_a_file_takes_columns_as_the_run_does(tmp_path):
    table = {
        "review": [text.encode() for text in TEXTS],
        "kind": [label.encode() for label in LABELS],
        "patient": PATIENTS,
    }
    file = write(tmp_path / "a.parquet", table)
    found = overview(str(file))
    assert [column.modality for column in found.columns] == ["text", "text", None]
    assert found.guesses == {"data.input": "review", "data.label": "kind"}
    assert found.groups == ["patient"]
    assert preview(str(file), "review", "kind", start=1, count=1)[0].text == "bad"
    looked = survey(spec_of(file, input="review", label="kind", group="patient"))
    assert [name for name, *_ in looked.classes] == ["bad", "good"]


# Many columns.


def test_a_file_with_many_columns_is_opened_once_for_all_of_them(tmp_path, monkeypatch):
    file = write(
        tmp_path / "a.parquet", {"text": TEXTS, "labels": LABELS, **{f"c{at}": range(ROWS) for at in range(300)}}
    )
    source, opened = open_source(str(file)), []

    class Counted(pq.ParquetFile):
        def __init__(self, *args: Any, **options: Any) -> None:
            opened.append(args[0])
            super().__init__(*args, **options)

    monkeypatch.setattr(column_stream.pq, "ParquetFile", Counted)
    rows = np.arange(ROWS)
    found = embeddings_of(source, tmp_path / "e.parquet", rows, label="labels", input="text")
    assert found["c299"].to_pylist() == rows.tolist()
    assert opened == [file]
    opened.clear()
    overview(str(file))
    assert len(opened) < 10


def test_names_that_the_table_of_embeddings_has_itself_are_told_apart(tmp_path):
    table = {"text": TEXTS, "labels": LABELS, "row": range(ROWS), "row_in_source": ["mine"] * ROWS, "label": [7] * ROWS}
    source = open_source(str(write(tmp_path / "a.parquet", table)))
    found = embeddings_of(source, tmp_path / "e.parquet", np.arange(3), label="labels", input="text")
    assert found.column_names == [
        "row", "label", "embedding", "row_in_source_in_source", "row_in_source", "label_in_source",
    ]  # fmt: skip
    assert found.column("row_in_source_in_source").to_pylist() == [0, 1, 2]
    assert found.column("row_in_source").to_pylist() == ["mine"] * 3


def test_what_is_known_of_a_column_goes_with_it(tmp_path):
    schema = pa.schema([("text", pa.string()), pa.field("it", pa.int8(), metadata={"unit": "mm"})])
    pq.write_table(pa.table({"text": TEXTS, "it": range(ROWS)}, schema=schema), tmp_path / "a.parquet")
    source = open_source(str(tmp_path / "a.parquet"))
    found = embeddings_of(source, tmp_path / "e.parquet", np.arange(3), label=None, input="text")
    assert found.schema.field("it").metadata[b"unit"] == b"mm"


# Files that are not Parquet.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html>\n<html></html>", "a web page (HTML)"),
        (b"ARROW1\0\0", "an Arrow (Feather) file"),
        (b"PK\x03\x04", "a ZIP archive"),
    ],
)
def test_a_file_that_is_no_parquet_is_called_what_it_is(tmp_path, content, said):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path / "a.parquet"))
    assert f"{tmp_path / 'a.parquet'} is not a Parquet file but {said}" in caught.value.message


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[[[1, 2, 3]] * 2] * 2] * 6, pa.list_(pa.list_(pa.list_(pa.uint8())))),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((6, 2, 2, 3), np.float32)),
    ],
    ids=["lists", "tensors"],
)
def test_pixels_without_a_format_have_a_way_on(tmp_path, column):
    file = write(tmp_path / "a.parquet", {"images": column, "labels": ["a", "b"] * 3})
    with pytest.raises(DataError, match="column 'images'") as refused:
        plan_data(spec_of(file))
    assert "write each picture as PNG" in str(refused.value.hint)
