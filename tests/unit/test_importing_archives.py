"""Importing archives and shards: members, damage, and tables that are packed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from imported_files import imported, reasons
from pictures import png

from deeptune.errors import DataError
from deeptune.importing import archives


def test_a_zip_is_imported_and_nothing_is_written_outside(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in sorted(photos.rglob("*.png")):
            file.write(path, path.relative_to(tmp_path))
        for name in ("../evil.png", "photos/../../evil.png", "C:\\evil.png"):
            file.writestr(name, png())
    table, done = imported(tmp_path / "a.zip", tmp_path)
    assert table["labels"].to_pylist() == ["cats", "cats", "dogs", "dogs"]
    assert not done.ignored
    assert len(reasons(done)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "out.left-out.csv", "out.parquet", "photos"]


def test_absolute_names_in_an_archive_are_read_as_relative_and_told(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in sorted(photos.rglob("*.png")):
            file.writestr(f"//{path.relative_to(tmp_path)}", path.read_bytes())
        file.writestr("/../evil.png", png())
    table, done = imported(tmp_path / "a.zip", tmp_path)
    assert table["labels"].to_pylist() == ["cats", "cats", "dogs", "dogs"]
    assert any("4 names begin with a slash, which is dropped: //photos/cats" in note for note in done.notes)
    assert list(reasons(done)) == ["/../evil.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "out.left-out.csv", "out.parquet", "photos"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_links_and_devices_in_a_tar_are_left_out(photos, tmp_path, mode):
    name = {"w": "a.tar", "w:gz": "a.tgz", "w:xz": "a.tar.xz"}[mode]
    with tarfile.open(tmp_path / name, mode) as file:
        file.add(photos, "photos")
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "/etc/passwd"), (tarfile.CHRTYPE, "")):
            info = tarfile.TarInfo(f"photos/cats/{kind.decode()}.png")
            info.type, info.linkname = kind, target
            file.addfile(info)
    table, done = imported(tmp_path / name, tmp_path)
    assert (table.num_rows, done.left_out) == (4, 3)


def test_a_bomb_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MIN_BOMB", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/1.png", bytes(8 * 2**20))
    with pytest.raises(DataError, match="may be made to fill a disk"):
        imported(tmp_path / "a.zip", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_encrypted_zip_is_one_clear_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a/1.png", png())
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        imported(tmp_path / "a.zip", tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_a_cut_off_archive_is_one_clear_error(photos, tmp_path, name):
    if name == "a.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            for path in photos.rglob("*.png"):
                file.write(path, path.name)
    else:
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as file:
            file.add(photos, "photos")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 3 if name != "a.tar" else 700])
    with pytest.raises(DataError):
        imported(tmp_path / name, tmp_path)


def test_an_archive_in_an_archive_is_read_and_several_are_refused_by_name(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as file:
        for path in photos.rglob("*.png"):
            file.write(path, path.relative_to(photos))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(tmp_path / "inner.zip", "inner.zip")
    table, done = imported(tmp_path / "a.zip", tmp_path)
    assert (table.num_rows, done.kind, done.ignored) == (4, "archive of an archive of a folder of pictures", {})
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        for name in ("cats.zip", "dogs.zip"):
            file.write(tmp_path / "inner.zip", name)
    with pytest.raises(DataError, match=r"b\.zip holds 2 archives and no pictures: cats\.zip, dogs\.zip") as caught:
        imported(tmp_path / "b.zip", tmp_path)
    assert "importing" not in caught.value.message


def test_an_error_within_an_archive_names_the_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("inside/data.csv", "a,b,a\n1,2,3\n")
    with pytest.raises(DataError, match=r"a\.zip/inside/data\.csv: the first row names 'a' twice"):
        imported(tmp_path / "a.zip", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(("suffix", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress)])
def test_a_table_packed_in_another_way_is_read(tmp_path, suffix, pack):
    (tmp_path / f"t.csv{suffix}").write_bytes(pack(b"text,y\nx,1\n"))
    table, _ = imported(tmp_path / f"t.csv{suffix}", tmp_path)
    assert table.to_pylist() == [{"text": "x", "y": 1}]


def test_a_compressed_table_is_read(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"text,y\nx,1\n"))
    table, done = imported(tmp_path / "t.csv.gz", tmp_path)
    assert (table.to_pylist(), done.kind) == ([{"text": "x", "y": 1}], "compressed CSV file")
    (tmp_path / "t.csv.gz").write_bytes(b"text,y\nx,1\n")
    with pytest.raises(DataError, match=r"t\.csv\.gz cannot be unpacked: Not a gzipped file"):
        imported(tmp_path / "t.csv.gz", tmp_path)


def test_a_zip_with_a_table_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("data.csv", "text,y\nx,1\n")
    assert imported(tmp_path / "a.zip", tmp_path)[0].to_pylist() == [{"text": "x", "y": 1}]


def _shard(path, samples):
    with tarfile.open(path, "w") as file:
        for key, parts in samples.items():
            for extension, data in parts.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))


def test_webdataset_shards_are_samples(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for split in ("train", "test"):
        parts = {"png": png(), "cls": b"1", "json": b'{"site": "A"}'}
        _shard(folder / f"{split}-000.tar", {f"{split}/{i}": parts for i in range(3)})
    table, _ = imported(folder, tmp_path)
    assert table.column_names == ["images", "labels", "site", "split", "key"]
    assert table["labels"].to_pylist() == [1] * 6
    assert table["split"].to_pylist() == ["test"] * 3 + ["train"] * 3


def test_a_sample_without_a_picture_is_left_out_of_a_shard(tmp_path):
    parts = {"png": png(), "cls": b"1"}
    _shard(tmp_path / "a.tar", {"0": parts, "1": {"cls": b"0"}, "2": {"png": b"no", "cls": b"0"}})
    table, done = imported(tmp_path / "a.tar", tmp_path)
    assert (table.num_rows, done.left_out) == (1, 2)
