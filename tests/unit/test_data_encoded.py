"""What a value of an image column means, and the files that it names as part of the data."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png

from deeptune.data.cache.entry import Cache, entries
from deeptune.data.columns.input_columns import attach_files, check_samples, resolve_columns
from deeptune.data.images import column_values as encoded
from deeptune.data.images.column_values import image_bytes, look_like_images
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.data.sources import named_files as files
from deeptune.data.sources.parquet import open_source
from deeptune.data.sources.source import Source
from deeptune.errors import DataError

PIXELS = ImagePreprocessing(image_size=8, resize=8, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
TEXT = base64.b64encode(png()).decode()


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))


def reason(value: Any, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        image_bytes(value, folder)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_value_is_bytes_a_file_or_base64(tmp_path):
    (tmp_path / "a b.png").write_bytes(png())
    (tmp_path / "none").write_bytes(b"")
    whole = str(tmp_path / "a b.png")
    named: list[Any] = ["a b.png", whole, f"file://{whole.replace(' ', '%20')}", "./a b.png"]
    named += [{"bytes": None, "path": "a b.png"}, {"path": whole}, {"bytes": png(), "path": "missing.png"}]
    url_safe = base64.urlsafe_b64encode(png()).decode().rstrip("=")
    digits = png().hex()
    encoded_texts = [TEXT, f" {TEXT}\n", f"data:image/png;base64,{TEXT}", url_safe, f"data:image/png;base64,{url_safe}"]
    encoded_texts += [digits, f"\\x{digits}", f"0x{digits.upper()}"]
    for value in (*named, png(), *encoded_texts, {"bytes": png()}):
        assert image_bytes(value, tmp_path) == png()
    for nothing in (None, {"bytes": None, "path": None}, {"bytes": None}):
        assert image_bytes(nothing, tmp_path) is None
    assert image_bytes("none", tmp_path) == b""


def test_what_can_not_be_read_says_why(tmp_path):
    assert reason("x/a.png", tmp_path) == (
        f"names the file x/a.png, which does not exist in {tmp_path}/ "
        "(data.root, or root in Python, names another folder)"
    )
    assert "does not exist in the current folder (" in reason("x/a.png", Path())
    assert reason("/nowhere/a.png", tmp_path).startswith("names the file /nowhere/a.png, which does not exist")
    (tmp_path / "folder.png").mkdir()
    assert reason("folder.png", tmp_path) == "names folder.png, which is a folder and not a file"
    os.mkfifo(tmp_path / "pipe.png")
    assert reason("pipe.png", tmp_path) == "names pipe.png, which is a device or a pipe and not a file"
    assert reason("/dev/zero", tmp_path) == "names /dev/zero, which is a device or a pipe and not a file"
    assert reason("https://example.org/a.png", tmp_path).startswith("is the address https://example.org/a.png, and")
    assert reason("  ", tmp_path).startswith("is an empty text")
    assert reason("a\0b", tmp_path).startswith("is neither the name of a file nor an image in base64")
    assert reason("word " * 2000, tmp_path).startswith("is neither the name of a file")
    assert reason("n-" * 150 + ".png", tmp_path).endswith("which cannot be read: File name too long")


def test_a_name_with_the_backslashes_of_windows_is_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(png())
    assert image_bytes("sub\\a.png", tmp_path) == png()
    assert image_bytes(".\\sub\\a.png", tmp_path) == png()
    assert reason("sub\\b.png", tmp_path).startswith("names the file sub\\b.png, which does not exist in")
    (tmp_path / "sub\\a.png").write_bytes(b"another")
    assert image_bytes("sub\\a.png", tmp_path) == b"another"  # the very name comes first


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(encoded, "MAX_FILE", 10)
    (tmp_path / "a.png").write_bytes(png())
    assert "the limit is 10" in reason("a.png", tmp_path)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a.png", "b/c.JPG", None, " "], True),
        (["scan.dcm"], True),
        ([TEXT, f"data:image/png;base64,{TEXT}"], True),
        ([png().hex(), f"\\x{png().hex()}"], True),
        ([base64.urlsafe_b64encode(png()).decode().rstrip("=")], True),
        (["deadbeef" * 20], False),
        (["a.png", "a good film"], False),
        (["see a.png and\nb.png"], False),
        (["data:text/plain,hello"], False),
        (["Lorem" * 40], False),
        ([], False),
        ([None, ""], False),
        ([b"a.png"], False),
    ],
)
def test_strings_that_look_like_images(values, expected):
    assert look_like_images(values) is expected


def named(tmp_path: Path, column: Any, **options: Any) -> Source:
    pq.write_table(pa.table({"images": column, "n": range(len(column))}), tmp_path / "d.parquet")
    source = open_source(str(tmp_path / "d.parquet"), **options)
    attach_files(source, *resolve_columns(source))
    return source


def write_pictures(folder: Path, count: int = 6) -> list[str]:
    folder.mkdir(exist_ok=True)
    for row in range(count):
        (folder / f"{row}.png").write_bytes(png(colour=(row, 0, 0)))
    return [f"{row}.png" for row in range(count)]


def pixels(source: Source) -> np.ndarray:
    """The red of each row; 999 for those that can't be used."""
    with Cache() as cache:
        samples = open_samples(source, "images", PIXELS, cache=cache)
        return np.array([999 if row in samples.reasons else samples.read(row)[0] for row in range(source.num_rows)])


def test_each_row_is_the_file_that_it_names(tmp_path):
    names = write_pictures(tmp_path)
    source = named(tmp_path, [names[4], names[0], "missing.png", names[4], None])
    assert pixels(source).tolist() == [4, 0, 999, 4, 999]
    checked = check_samples(source, "images", "image")
    assert list(checked.reasons) == [2, 4]
    assert checked.reasons[4] == "is null"


def test_names_start_at_the_folder_of_their_own_parquet_file_or_at_the_root(tmp_path):
    for folder, red in (("a", 10), ("b", 20), ("root", 30)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(png(colour=(red, 0, 0)))
    for folder in ("a", "b"):
        pq.write_table(pa.table({"images": ["x.png"] * 3}), tmp_path / folder / "d.parquet")
    for root, expected in ((None, [10] * 3 + [20] * 3), (str(tmp_path / "root"), [30] * 6)):
        source = open_source([str(tmp_path / "a/d.parquet"), str(tmp_path / "b/d.parquet")], root=root)
        attach_files(source, "image", "images")
        assert pixels(source).tolist() == expected
    with pytest.raises(DataError, match=r"data\.root: there is no folder"):
        open_source(str(tmp_path / "a"), root=str(tmp_path / "none"))


def test_a_struct_with_bytes_in_its_first_rows_reads_no_files(tmp_path):
    names = write_pictures(tmp_path)
    source = named(tmp_path, [{"bytes": png(), "path": names[0]}] * 30 + [{"bytes": None, "path": names[1]}])
    assert source.named is None
    assert check_samples(source, "images", "image").reasons == {
        30: "has no bytes, and its path '1.png' is not read, as the first rows have bytes: write all alike"
    }


def test_the_fingerprint_is_of_the_files_and_their_names(tmp_path):
    names = write_pictures(tmp_path)
    first = named(tmp_path, names).fingerprint()
    assert named(tmp_path, names).fingerprint() == first
    file = tmp_path / names[2]
    content, state = file.read_bytes(), file.stat()
    file.write_bytes(content[:-1] + b"x")  # as long as before, and with its former time
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert named(tmp_path, names).fingerprint() != first
    file.write_bytes(content)
    assert named(tmp_path, names).fingerprint() == first
    file.unlink()
    assert named(tmp_path, names).fingerprint() != first


def test_files_that_nobody_touched_are_read_once_for_their_fingerprint(tmp_path, monkeypatch):
    names = write_pictures(tmp_path)
    first = named(tmp_path, names).fingerprint()
    monkeypatch.setattr(files, "_content", None)
    assert named(tmp_path, names).fingerprint() == first
    assert [entry.complete for entry in entries()] == [True]


def test_without_a_cache_the_fingerprint_is_the_same(tmp_path, monkeypatch):
    names = write_pictures(tmp_path)
    first = named(tmp_path, names).fingerprint()
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "no folder"))
    assert named(tmp_path, names).fingerprint() == first


def test_a_file_that_changes_while_samples_are_made_is_noticed(tmp_path):
    names = write_pictures(tmp_path)
    source = named(tmp_path, names)
    source.fingerprint()
    (tmp_path / names[1]).write_bytes(png(colour=(99, 0, 0)))
    with Cache() as cache, pytest.raises(DataError, match="files that column 'images' names have changed"):
        open_samples(source, "images", PIXELS, cache=cache)


def test_samples_of_changed_files_are_made_again(tmp_path):
    names = write_pictures(tmp_path)
    with Cache() as cache:
        open_samples(named(tmp_path, names), "images", PIXELS, cache=cache)
    (tmp_path / names[1]).write_bytes(png(colour=(99, 0, 0)))
    with Cache() as cache:
        samples = open_samples(named(tmp_path, names), "images", PIXELS, cache=cache)
        assert [samples.read(row)[0] for row in range(6)] == [0, 99, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("column", "modality", "expected"),
    [
        (["a.png", "b.png"], None, "image"),
        (["a.png", "b.png"], "text", "text"),
        (["a film", "b.png"], None, "text"),
        (["a film", "b"], "image", "image"),
        ([b"a.png", b"b.png"], None, "image"),
        ([b"a film", b"b"], None, "text"),
        ([TEXT.encode()], None, "image"),
        ([png()], None, "image"),
        ([{"path": "a"}], None, "image"),
        (pa.array(["a.png"]).dictionary_encode(), None, "image"),
    ],
)
def test_the_modality_of_a_column_goes_by_its_values(tmp_path, column, modality, expected):
    pq.write_table(pa.table({"it": column}), tmp_path / "d.parquet")
    assert resolve_columns(open_source(str(tmp_path / "d.parquet")), modality, "it") == (expected, "it")
