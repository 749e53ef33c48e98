"""Samples that cannot be used: all told at once, left out, or replaced by empty ones."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from plans import plan, png, refusal, write

from deeptune.data.columns.input_columns import check_samples
from deeptune.data.modalities.checked_samples import BadSample
from deeptune.data.sources.parquet import open_source


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(out, "JPEG")
    return out.getvalue()


CUT = jpeg()[:-300]


def with_bad_images(tmp_path, n=60, bad=(4, 31, 50)) -> str:
    images = [png(i) for i in range(n)]
    for row, data in zip(bad, (CUT, b"no image", None), strict=False):
        images[row] = data
    return write(tmp_path / "images.parquet", images=images, labels=[i % 2 for i in range(n)])


def test_bad_images_are_all_listed_at_once(tmp_path):
    error = refusal(path=with_bad_images(tmp_path))
    first, *rows = error.message.splitlines()
    assert first == "data.input: 3 of 60 samples in column 'images' cannot be used:"
    assert rows[0].startswith("  row 4 is cut off (")
    assert rows[1] == "  row 31 is not an image but text"
    assert rows[2] == "  row 50 is null"
    assert error.hint == (
        'Repair them, or set data.on_bad_sample = "skip" to leave them out or "blank" to use empty ones.'
    )


def test_many_bad_samples_are_counted(tmp_path):
    file = write(tmp_path / "a.parquet", text=["" if i < 30 else "text" for i in range(60)], labels=[0, 1] * 30)
    rows = refusal(path=file).message.splitlines()
    assert rows[0] == "data.input: 30 of 60 samples in column 'text' cannot be used:"
    assert rows[1:] == [f"  row {i} is blank" for i in range(8)] + ["  and 22 more"]


def test_skip_leaves_them_out_before_splitting(tmp_path):
    p = plan(path=with_bad_images(tmp_path, n=63), on_bad_sample="skip")
    assert [(s.split, s.row) for s in p.bad_samples] == [(None, 4), (None, 31), (None, 50)]
    assert {name: len(s) for name, s in p.splits.items()} == {"train": 42, "val": 6, "test": 12}
    assert not {4, 31, 50} & set(np.concatenate([s.rows for s in p.splits.values()]).tolist())
    assert p.blank == frozenset()
    assert p.warnings == ["3 of 63 samples cannot be used: 3 left out"]
    for s in p.splits.values():
        assert (s.targets == s.rows % 2).all()


def test_blank_keeps_them(tmp_path):
    p = plan(path=with_bad_images(tmp_path), on_bad_sample="blank")
    assert sum(map(len, p.splits.values())) == 60
    assert {row for _, row in p.blank} == {4, 31, 50}
    for split, row in p.blank:
        assert row in p.splits[split].rows
        assert row in p.blank_rows(split)
    assert sorted((s.split, s.row) for s in p.bad_samples) == sorted(p.blank)
    assert p.warnings == ["3 of 60 samples cannot be used: 3 replaced by an empty sample"]


def test_bad_samples_of_files_apart_say_where(tmp_path):
    train = write(tmp_path / "train.parquet", text=["x"] * 39 + [None], labels=[0, 1] * 20)
    test = write(tmp_path / "test.parquet", text=["x", " "], labels=[0, 1])
    rows = refusal(train=train, test=test).message.splitlines()
    assert rows[1:] == ["  train, row 39 is null", "  test, row 1 is blank"]
    skipped = plan(train=train, test=test, on_bad_sample="skip")
    assert skipped.bad_samples == [BadSample("train", 39, "is null"), BadSample("test", 1, "is blank")]
    assert skipped.splits["test"].rows.tolist() == [0]
    assert ("test", 1) in plan(train=train, test=test, on_bad_sample="blank").blank


def test_skipping_groups_keeps_them_aligned(tmp_path):
    patients = [i // 4 for i in range(80)]
    text = [None if i % 9 == 0 else "x" for i in range(80)]
    file = write(tmp_path / "a.parquet", text=text, labels=[0, 1] * 40, patient=patients)
    p = plan(path=file, group="patient", on_bad_sample="skip")
    sides = [{patients[row] for row in s.rows} for s in p.splits.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_a_class_whose_rows_are_all_skipped_is_no_class(tmp_path):
    labels = ["a gone" if i < 3 else "bc"[i % 2] for i in range(60)]
    file = write(tmp_path / "a.parquet", text=[None if i < 3 else "x" for i in range(60)], labels=labels)
    p = plan(path=file, on_bad_sample="skip")
    assert p.task.values == ("b", "c")
    assert p.outputs == 2
    for s in p.splits.values():
        assert p.task.decode(s.targets).to_pylist() == [labels[row] for row in s.rows]
    test = write(tmp_path / "test.parquet", text=["x"] * 3, labels=["a gone", "b", "c"])
    assert "no usable training row is left of a gone" in refusal(train=file, test=test, on_bad_sample="skip").message


def test_nothing_usable(tmp_path):
    file = write(tmp_path / "a.parquet", text=[""] * 20, labels=[0, 1] * 10)
    error = refusal(path=file, on_bad_sample="skip")
    assert error.message.startswith(
        "data.input: no sample in column 'text' can be used: row 0 is blank, row 1 is blank"
    )


def test_samples_of_another_file_are_checked_by_row(tmp_path):
    source = open_source(with_bad_images(tmp_path))
    calls = []
    rows = np.array([31, 5, 4])
    checked = check_samples(source, "images", "image", rows, lambda *done: calls.append(done))
    assert [sample.row for sample in checked.bad(rows)] == [31, 4]
    assert calls == [(60, 60)]
    assert list(check_samples(source, "images", "image").reasons) == [4, 31, 50]
    struct = [{"bytes": None, "path": None}, None, {"bytes": png(), "path": None}]
    source = open_source(write(tmp_path / "b.parquet", images=struct))
    assert check_samples(source, "images", "image").reasons == {0: "is null", 1: "is null"}
