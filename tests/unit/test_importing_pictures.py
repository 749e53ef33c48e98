"""Importing folders of pictures, tables that name pictures, and arrays."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from imported_files import imported, put, reasons
from pictures import png
from PIL import Image

from deeptune.errors import DataError
from deeptune.importing import Options, import_data, importer


def test_folders_are_classes_and_bytes_stay_as_they_are(photos, tmp_path):
    table, done = imported(photos, tmp_path)
    assert table["labels"].to_pylist() == ["cats", "cats", "dogs", "dogs"]
    assert table["images"][0].as_py() == (photos / "cats/1.png").read_bytes()
    assert table["path"].to_pylist() == ["cats/1.png", "cats/2.png", "dogs/4.png", "dogs/old/3.png"]
    assert done.roles == {"input": "images", "label": "labels"}


def test_what_is_no_picture_is_left_out_with_its_reason(photos, tmp_path):
    put(photos / "cats/empty.png", b"")
    put(photos / "cats/text.jpg", b"just some text")
    put(photos / "stray.png")
    _, done = imported(photos, tmp_path)
    assert reasons(done) == {
        "cats/empty.png": "is empty (0 bytes)",
        "cats/text.jpg": "is not an image but text",
        "stray.png": "lies beside the folders of the classes",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_the_right_to_read_is_left_out(photos, tmp_path):
    (photos / "cats/1.png").chmod(0)
    assert "permission" in reasons(imported(photos, tmp_path)[1])["cats/1.png"].lower()


def test_by_products_of_systems_are_ignored_and_counted(photos, tmp_path):
    for name in ("Thumbs.db", ".DS_Store", "__MACOSX/cats/._1.png", "cats/._2.png"):
        put(photos / name, b"x")
    table, done = imported(photos, tmp_path)
    assert table.num_rows == 4
    assert sum(done.ignored.values()) == 4


def test_a_folder_without_pictures_is_named_and_no_class(photos, tmp_path):
    (photos / "birds").mkdir()
    assert any("birds" in note for note in imported(photos, tmp_path)[1].notes)


def test_folders_of_splits_become_a_column(tmp_path):
    for split in ("train", "valid", "test"):
        for name in ("a", "b"):
            put(tmp_path / "set" / split / name / "1.png")
    table, done = imported(tmp_path / "set", tmp_path)
    assert set(zip(table["split"].to_pylist(), table["labels"].to_pylist(), strict=True)) == {
        (split, name) for split in ("train", "val", "test") for name in ("a", "b")
    }
    assert done.roles["split"] == "split"


def test_pictures_in_one_folder_have_no_labels(tmp_path):
    put(tmp_path / "flat" / "1.png")
    assert imported(tmp_path / "flat", tmp_path)[0].column_names == ["images", "path"]


def test_a_name_that_is_not_utf8_is_imported(photos, tmp_path):
    (photos / "cats" / os.fsdecode(b"caf\xe9.png")).write_bytes(png())
    assert "cats/caf\\xe9.png" in imported(photos, tmp_path)[0]["path"].to_pylist()


def test_a_linked_folder_that_contains_itself_is_entered_once(photos, tmp_path):
    (photos / "cats" / "again").symlink_to(photos)
    assert imported(photos, tmp_path)[0].num_rows == 4


def test_an_import_that_was_stopped_goes_on_where_it_was(photos, tmp_path, monkeypatch):
    whole, _ = imported(photos, tmp_path)
    monkeypatch.setattr(importer, "PART_BYTES", 1)
    monkeypatch.setattr("deeptune.importing.pictures.PIECE_BYTES", 1)
    read, kept = [], importer._Parts.add

    def stopped(self, pieces, schema):
        if len(self.done) == 2:
            raise KeyboardInterrupt
        kept(self, pieces, schema)

    monkeypatch.setattr(importer._Parts, "add", stopped)
    with pytest.raises(KeyboardInterrupt):
        import_data(photos, tmp_path / "again.parquet")
    monkeypatch.setattr(importer._Parts, "add", kept)
    (tmp_path / ".again.parquet.0123.tmp").touch()  # as one that was killed while it wrote its output leaves it
    import_data(photos, tmp_path / "again.parquet", progress=lambda done, total: read.append(done))
    assert read[0] == 3  # two were there
    assert pq.read_table(tmp_path / "again.parquet").equals(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.parquet", "out.parquet", "photos"]


@pytest.mark.parametrize("name", ["shard-*.tar", "shard-{00..07}.tar"])
def test_a_pattern_is_told_to_be_a_folder(tmp_path, name):
    with pytest.raises(DataError, match="no file or folder") as error:
        import_data(tmp_path / name, tmp_path / "out.parquet")
    assert "put the files into a folder" in error.value.hint


def test_an_import_of_a_source_that_changed_starts_again(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("deeptune.importing.importer._join", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        import_data(photos, tmp_path / "out.parquet")
    monkeypatch.undo()
    put(photos / "cats/9.png")
    assert imported(photos, tmp_path)[0].num_rows == 5


# Tables that name pictures.


@pytest.fixture
def named(tmp_path):
    folder = tmp_path / "named"
    for number in range(6):
        put(folder / "images" / f"ISIC_{number}.png", png(colour=(number, 0, 0)))
    return folder


@pytest.mark.parametrize(
    "name", ["images/ISIC_{}.png", "ISIC_{}.png", "ISIC_{}", "images\\ISIC_{}.png", "/far/ISIC_{}.png"]
)
def test_pictures_are_found_by_path_name_or_stem(named, tmp_path, name):
    rows = "".join(f"{name.format(number)},{number % 2}\n" for number in range(6))
    (named / "labels.csv").write_text(f"file,dx\n{rows}")
    table, _ = imported(named, tmp_path, label="dx")
    assert table.column_names == ["images", "labels", "path"]
    assert table["images"][3].as_py() == png(colour=(3, 0, 0))


def test_a_file_that_is_missing_is_left_out_and_one_that_is_not_named_is_counted(named, tmp_path):
    (named / "labels.csv").write_text("file,dx\nISIC_0,a\nISIC_1,b\nISIC_77,a\n,a\n")
    _, done = imported(named, tmp_path)
    assert reasons(done)["ISIC_77"].startswith("names the file ISIC_77, which does not exist")
    assert any("4 pictures of the folder are named in no row" in note for note in done.notes)


def test_two_files_of_one_name_are_not_guessed(named, tmp_path):
    put(named / "other" / "ISIC_0.png")
    (named / "labels.csv").write_text("file,dx\nISIC_0,a\nISIC_1,b\nISIC_2,b\n")
    assert "there are 2 of that name" in reasons(imported(named, tmp_path)[1])["ISIC_0"]


def test_a_table_beside_its_pictures_is_a_source_too(named, tmp_path):
    (named / "labels.csv").write_text("file,dx\nimages/ISIC_0.png,a\nimages/ISIC_1.png,b\n")
    table, _ = imported(named / "labels.csv", tmp_path)
    assert table["file"][1].as_py() == png(colour=(1, 0, 0))


def test_the_metadata_of_an_image_folder_name_its_pictures(tmp_path):
    for split in ("train", "test"):
        put(tmp_path / "set" / split / "a.png", png(colour=(len(split), 0, 0)))
        (tmp_path / "set" / split / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "label": "x"}))
    table, _ = imported(tmp_path / "set", tmp_path)
    assert dict(zip(table["split"].to_pylist(), table["file_name"].to_pylist(), strict=True)) == {
        "train": png(colour=(5, 0, 0)), "test": png(colour=(4, 0, 0)),
    }  # fmt: skip


def test_one_picture_is_a_source(tmp_path):
    put(tmp_path / "cat.png")
    table, done = imported(tmp_path / "cat.png", tmp_path)
    assert (table["images"].to_pylist(), done.kind, done.notes) == ([png()], "picture", [])


# Arrays.


def test_arrays_keep_their_values_labels_and_splits(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_images": rng.integers(0, 256, (n, 8, 9, 3), np.uint8) for split, n in (("train", 5), ("test", 3))
    }
    arrays |= {"train_labels": np.arange(5)[:, None], "test_labels": np.arange(3)[:, None]}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    table, _ = imported(tmp_path / "a.npz", tmp_path)
    assert table["labels"].to_pylist() == [0, 1, 2, 3, 4, 0, 1, 2]
    pixels = np.asarray(Image.open(io.BytesIO(table["images"][6].as_py())))
    assert np.array_equal(pixels, arrays["test_images"][1])
    assert table["split"].to_pylist() == ["train"] * 5 + ["test"] * 3


def test_colours_are_shares_of_1_only_if_those_of_all_images_are(tmp_path):
    dark, bright = np.zeros((4, 4, 3)), np.ones((4, 4, 3))
    np.savez(tmp_path / "shares.npz", x=np.stack([bright, dark, (dark + bright) / 2]), y=[0, 1, 0])
    table, _ = imported(tmp_path / "shares.npz", tmp_path)
    seen = [np.asarray(Image.open(io.BytesIO(one))).max() for one in table["images"].to_pylist()]
    assert seen == [255, 0, 128]
    np.savez(tmp_path / "values.npz", x=np.stack([bright, 200 * bright]).astype(np.float32), y=[0, 1])
    table, _ = imported(tmp_path / "values.npz", tmp_path)
    seen = [np.asarray(Image.open(io.BytesIO(one))).max() for one in table["images"].to_pylist()]
    assert seen == [1, 200]


def test_deep_grey_arrays_stay_deep(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (3, 8, 8)).astype(np.int32)
    np.savez(tmp_path / "a.npz", x=values, y=[0, 1, 0])
    table, _ = imported(tmp_path / "a.npz", tmp_path)
    image = Image.open(io.BytesIO(table["images"][2].as_py()))
    assert image.mode == "I;16"
    assert np.array_equal(np.asarray(image), values[2])


def test_an_archive_with_objects_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(DataError, match="no array of images"):
        imported(tmp_path / "a.npz", tmp_path)


def test_one_folder_with_files_beside_it_is_no_class(tmp_path):
    (tmp_path / "scans" / "series").mkdir(parents=True)
    for name in ("a.png", "b.png", "series/c.png"):
        (tmp_path / "scans" / name).write_bytes(png())
    done = import_data(tmp_path / "scans", tmp_path / "out.parquet", Options())
    assert (done.rows, done.left_out) == (3, 0)
    assert "labels" not in done.columns


def test_pictures_of_one_folder_are_said_to_be_one_class(tmp_path):
    (tmp_path / "coco" / "images").mkdir(parents=True)
    (tmp_path / "coco" / "annotations.json").write_text("{}")
    for name in ("a.png", "b.png"):
        (tmp_path / "coco" / "images" / name).write_bytes(png())
    done = import_data(tmp_path / "coco", tmp_path / "out.parquet", Options())
    assert "all pictures are in the folder 'images', which is one class: a run needs two or more" in done.notes


def _jpeg(pixels=64):
    values = np.random.default_rng(0).integers(0, 256, (pixels, pixels, 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(values).save(data, "JPEG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "format"), [("a.jpg", "JPEG"), ("a.png", "PNG"), ("a.webp", "WEBP"), ("a.bmp", "BMP")]
)
def test_a_picture_that_is_cut_off_is_left_out_with_its_reason(photos, tmp_path, name, format):
    data = io.BytesIO()
    Image.open(io.BytesIO(_jpeg())).save(data, format)
    put(photos / "cats" / f"whole_{name}", data.getvalue() + (b"\0" * 9 if format == "JPEG" else b""))
    put(photos / "cats" / f"cut_{name}", data.getvalue()[: len(data.getvalue()) // 2])
    table, done = imported(photos, tmp_path)
    assert f"cats/whole_{name}" in table["path"].to_pylist()
    assert list(reasons(done)) == [f"cats/cut_{name}"]
    assert ("cannot be decoded" if format == "WEBP" else "cut off") in reasons(done)[f"cats/cut_{name}"]


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_picture_that_is_damaged_in_the_middle_is_left_out_with_its_reason(photos, tmp_path, format):
    noise = np.random.default_rng(0)
    data = io.BytesIO()
    Image.fromarray(noise.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(data, format)
    whole, middle = data.getvalue(), len(data.getvalue()) // 2
    bad = whole[:middle] + noise.bytes(4000) + whole[middle + 4000 :]
    put(photos / "cats" / "whole.x.png", whole)
    put(photos / "cats" / "damaged.png", bad)
    _, done = imported(photos, tmp_path)
    assert list(reasons(done)) == ["cats/damaged.png"]
    assert "cannot be decoded" in reasons(done)["cats/damaged.png"]


def test_pictures_without_a_suffix_are_known_by_their_first_bytes(photos, tmp_path):
    put(photos / "cats" / "IMG0001")
    put(photos / "dogs" / "IMG0002.7", _jpeg())
    put(photos / "dogs" / "notes", b"no picture")
    table, done = imported(photos, tmp_path)
    assert {"cats/IMG0001", "dogs/IMG0002.7"} < set(table["path"].to_pylist())
    assert (done.rows, done.ignored) == (6, {"files of other kinds": 1})


def test_a_table_that_names_no_picture_does_not_hide_the_columns_of_pictures(photos, tmp_path):
    (photos / "notes.json").write_text('[{"key": "mail"}, {"key": "phone"}]')
    table, _ = imported(photos, tmp_path, label="labels")
    assert table["labels"].to_pylist() == ["cats", "cats", "dogs", "dogs"]
    with pytest.raises(DataError, match=r"--label: .*photos has no column 'label'. Did you mean 'labels'"):
        imported(photos, tmp_path, label="label")


def test_a_source_whose_name_is_not_utf8_is_refused(tmp_path):
    folder = tmp_path / os.fsdecode(b"donn\xe9es")
    folder.mkdir()
    (folder / "part.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"the name b'donn\\xe9es' in .* is not UTF-8"):
        imported(folder, tmp_path)
