"""Importing the splits of the original DeepTune: its label mapping, its three files, and what can be wrong with them.

The files are written as its code does: with pandas, scikit-learn's LabelEncoder and train_test_split.
"""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder

from deeptune.data.sources.parquet import open_source
from deeptune.errors import DataError
from deeptune.importing import import_data


def write_splits(folder, frame, *, encoded=True):
    folder.mkdir(parents=True)
    frame = frame.copy()
    if encoded:
        encoder = LabelEncoder().fit(frame["labels"])
        frame["labels"] = encoder.transform(frame["labels"])
        mapping = {str(label): index for index, label in enumerate(encoder.classes_)}
        (folder / "label_mapping.json").write_text(json.dumps(mapping, indent=4))
    train, rest = train_test_split(frame, train_size=0.7, random_state=42)
    val, test = train_test_split(rest, test_size=0.2 / 0.3, random_state=42)
    indices = pd.DataFrame({"Test Set Indices in the Original Dataframe": test.index})
    indices.to_csv(folder / "test_indices.csv")
    for name, part in (("train", train), ("val", val), ("test", test)):
        part.reset_index(drop=True).to_parquet(folder / f"{name}_split.parquet", index=False)
    return {name: set(part["id"]) for name, part in (("train", train), ("val", val), ("test", test))}


def texts(labels):
    return pd.DataFrame({"text": [f"text {i}" for i in range(len(labels))], "labels": labels, "id": range(len(labels))})


def test_labels_get_their_names_back_and_rows_stay_in_their_split(tmp_path):
    frame = texts([("dog", "cat", "Bär")[i % 3] for i in range(300)])
    ids = write_splits(tmp_path / "out" / "deeptune-20251128-exp1" / "data_splits_20251128_1530", frame)
    done = import_data(tmp_path / "out", tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert done.roles == {"label": "labels", "split": "split"}
    assert table.column_names == ["text", "labels", "id", "split"]
    assert b"pandas" not in table.schema.metadata
    for split, rows in ids.items():
        assert {row["id"] for row in table.to_pylist() if row["split"] == split} == rows
    assert {row["id"]: row["labels"] for row in table.to_pylist()} == dict(enumerate(frame["labels"]))


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([i % 11 for i in range(90)], pa.int64()),  # "10" comes before "2" as text
        ([i / 7 - 3 for i in range(90)], pa.float64()),  # a regression, whose numbers the original encodes too
        ([f"{i % 3:03}" for i in range(90)], pa.string()),
        ([("1", "2", "many")[i % 3] for i in range(90)], pa.string()),
    ],
)
def test_numbers_become_numbers_again(tmp_path, labels, kind):
    write_splits(tmp_path / "data_splits_20251128_1530", texts(labels))
    import_data(tmp_path / "data_splits_20251128_1530", tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.schema.field("labels").type == kind
    assert {row["id"]: row["labels"] for row in table.to_pylist()} == dict(enumerate(labels))


def test_labels_that_were_not_encoded_stay_as_they_are(tmp_path):
    labels = [i / 7 for i in range(90)]
    write_splits(tmp_path / "data_splits_20251128_1530", texts(labels), encoded=False)
    done = import_data(tmp_path / "data_splits_20251128_1530", tmp_path / "t.parquet")
    assert "there is no label_mapping.json: labels stay as they are" in done.notes
    found = {row["id"]: row["labels"] for row in pq.read_table(tmp_path / "t.parquet").to_pylist()}
    assert found == dict(enumerate(labels))


def test_a_run_takes_the_folder_itself(tmp_path):
    frame = pd.DataFrame(
        {"images": [png(i + 1) for i in range(60)], "labels": [("b", "a")[i % 2] for i in range(60)], "id": range(60)}
    )
    folder = tmp_path / "deeptune-20251128-exp1"
    write_splits(folder / "data_splits_20251128_1530", frame)
    embeddings = pd.DataFrame({"0": [0.5], "labels": [1]})
    embeddings.to_parquet(folder / "resnet18_cls_embeddings.parquet", index=False)
    source = open_source(str(folder))
    assert source.num_rows == 60
    assert set(source.column("labels").to_pylist()) == {"a", "b"}
    assert "splits of the original DeepTune" in source.notes[0]


def test_other_folders_of_parquet_files_are_read_as_before(tmp_path):
    for name in ("train_split", "val_split", "test_split"):
        texts(["a", "b"]).to_parquet(tmp_path / f"{name}.parquet")
    assert open_source(str(tmp_path)).num_rows == 6


def test_a_column_of_the_name_split_is_kept_beside(tmp_path):
    frame = texts(["a", "b"] * 20).assign(split="before")
    write_splits(tmp_path / "data_splits_20251128_1530", frame)
    import_data(tmp_path / "data_splits_20251128_1530", tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert set(table["split_in_data"].to_pylist()) == {"before"}
    assert set(table["split"].to_pylist()) == {"train", "val", "test"}


def test_several_experiments_are_named(tmp_path):
    for number in (1, 2):
        write_splits(tmp_path / f"deeptune-20251128-exp{number}" / "data_splits_20251128_1530", texts(["a", "b"] * 20))
    with pytest.raises(DataError, match=r"2 folders of splits: deeptune-20251128-exp1/data_splits_20251128_1530"):
        import_data(tmp_path, tmp_path.parent / "t.parquet")
    with pytest.raises(DataError, match=r"^data.path: .* 2 folders of splits"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ('{"a": 0}', r"row 0: label 1 is not in label_mapping.json, which has the labels 0 to 0"),
        ('{"a": 0, "b": 2}', "is not a mapping of labels to the integers 0, 1, 2"),
        ('{"a": "0"}', "is not a mapping of labels"),
        ("[]", "is not a mapping of labels"),
        ("{", "cannot be read"),
    ],
)
def test_a_wrong_mapping_is_one_message(tmp_path, mapping, says):
    folder = tmp_path / "data_splits_20251128_1530"
    write_splits(folder, texts(["b"] * 30 + ["a"] * 30))
    (folder / "label_mapping.json").write_text(mapping)
    for split in ("train", "val", "test"):  # whichever row comes first
        frame = pd.read_parquet(folder / f"{split}_split.parquet").assign(labels=1)
        frame.to_parquet(folder / f"{split}_split.parquet", index=False)
    with pytest.raises(DataError, match=says):
        import_data(folder, tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


def test_a_mapping_of_labels_that_are_no_integers_is_refused(tmp_path):
    folder = tmp_path / "data_splits_20251128_1530"
    write_splits(folder, texts(["a", "b"] * 20), encoded=False)
    (folder / "label_mapping.json").write_text('{"a": 0, "b": 1}')
    with pytest.raises(DataError, match=r"is of type \w*string, and label_mapping.json names integers"):
        import_data(folder, tmp_path / "t.parquet")
