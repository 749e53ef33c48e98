"""Opening Parquet: which files, in which order, and one clear message for each that cannot be used."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_files import write

from deeptune.data.sources.parquet import open_source, sample_names
from deeptune.data.splits.given_split import imported_split
from deeptune.errors import DataError


def refusal(paths, **kwargs) -> DataError:
    with pytest.raises(DataError) as caught:
        open_source(paths, **kwargs)
    return caught.value


def test_a_file_is_a_table_of_numbered_rows(tmp_path):
    file = write(tmp_path / "a.parquet", text=["x", "y"], labels=[1, 2])
    source = open_source(str(file))
    assert (source.files, source.num_rows, source.column_names) == ((file,), 2, ["text", "labels"])
    assert source.column("text").to_pylist() == ["x", "y"]
    assert source.where(1) == "row 1"
    assert source.locate(1) == (file, 1)
    assert source.fingerprint() == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("how", ["list", "reversed", "glob", "folder", "twice"])
def test_several_files_have_one_order_however_they_are_named(tmp_path, how):
    b = write(tmp_path / "deep" / "b.parquet", n=[3, 4, 5])
    a = write(tmp_path / "deep" / "a.parquet", n=[0, 1, 2])
    c = write(tmp_path / "c.parquet", n=[6])
    (tmp_path / "notes.txt").write_text("no data")
    write(tmp_path / ".cache" / "old.parquet", other=[9])
    named = {
        "list": [str(a), str(b), str(c)],
        "reversed": [str(c), str(b), str(a)],
        "glob": str(tmp_path / "**" / "*.parquet"),
        "folder": str(tmp_path),
        "twice": [str(tmp_path), str(a)],
    }
    source = open_source(named[how])
    assert source.files == (c, a, b)
    assert source.column("n").to_pylist() == [6, 0, 1, 2, 3, 4, 5]
    assert [source.locate(row) for row in (0, 1, 3, 4, 6)] == [(c, 0), (a, 0), (a, 2), (b, 0), (b, 2)]
    assert source.where(5) == "row 5 (file b.parquet, row 1)"
    assert source.take("n", np.array([6, 0])).to_pylist() == [5, 6]
    assert source.file_of(np.array([0, 1, 3, 4])) == [str(c), str(a), str(a), str(b)]
    with pytest.raises(IndexError):
        source.locate(7)


def test_column_order_may_differ_between_files(tmp_path):
    write(tmp_path / "a.parquet", x=[1], y=["a"])
    write(tmp_path / "b.parquet", y=["b"], x=[2])
    source = open_source(str(tmp_path))
    assert (source.column("x").to_pylist(), source.column("y").to_pylist()) == ([1, 2], ["a", "b"])


def test_the_fingerprint_is_of_the_contents_in_order(tmp_path):
    write(tmp_path / "a.parquet", n=[1])
    write(tmp_path / "b.parquet", n=[2])
    two = open_source(str(tmp_path)).fingerprint()
    write(tmp_path / "b.parquet", n=[3])
    assert open_source(str(tmp_path)).fingerprint() != two
    write(tmp_path / "b.parquet", n=[2])
    assert open_source(str(tmp_path)).fingerprint() == two


def test_samples_open_by_name():
    assert sample_names() == ["digits_rotation", "movie_snippets", "openclipart7"]
    clipart = open_source("sample:openclipart7")
    assert clipart.num_rows == 560
    assert clipart.label_names() == ["animal", "food", "people", "tool", "plant", "hardware", "music"]
    assert open_source("sample:movie_snippets").label_names("labels") == ["negative", "positive"]
    error = refusal("sample:openclipart")
    assert error.message == "data.path: there is no sample 'openclipart'. Did you mean 'openclipart7'?"
    assert error.hint == "Samples: digits_rotation, movie_snippets, openclipart7."


def test_a_missing_file_is_named_with_the_nearest(tmp_path):
    write(tmp_path / "reviews.parquet", n=[1])
    wrong = tmp_path / "revews.parquet"
    error = refusal(str(wrong), key="data.train")
    assert error.message == f"data.train: there is no file or folder {wrong}. Did you mean 'reviews.parquet'?"
    assert error.hint == f"Relative paths start at {Path.cwd()}."
    assert error.exit_code == 3


def test_a_path_too_long_to_exist_is_a_message():
    assert "cannot be opened: File name too long" in refusal("x" * 5000).message


def test_a_glob_or_folder_without_parquet(tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    assert refusal(str(tmp_path / "*.parquet")).message == f"data.path: no file matches {tmp_path}/*.parquet"
    (tmp_path / "data.csv").rename(tmp_path / "README.md")
    assert refusal(str(tmp_path)).message == f"data.path: {tmp_path} holds no pictures and no table"
    (tmp_path / "README.md").unlink()
    assert refusal(str(tmp_path)).message == f"data.path: the folder {tmp_path} is empty"


def test_brackets_in_a_file_name_are_no_glob(tmp_path):
    file = write(tmp_path / "part[1].parquet", n=[1])
    assert open_source(str(file)).files == (file,)


def test_what_is_not_parquet(tmp_path):
    csv = tmp_path / "data.of_a_program"
    csv.write_text("text,labels\nhello,1\n")
    error = refusal(str(csv))
    assert error.message == f"data.path: {csv} is not a Parquet file"
    assert "deeptune import" in error.hint
    empty = tmp_path / "empty.parquet"
    empty.touch()
    assert refusal(str(empty)).message == f"data.path: {empty} is empty (0 bytes)"


def test_a_cut_off_file(tmp_path):
    file = write(tmp_path / "a.parquet", n=list(range(1000)))
    file.write_bytes(file.read_bytes()[:-100])
    assert refusal(str(file)).message == f"data.path: {file} is cut off: the end of the Parquet file is missing"
    file.write_bytes(b"PAR1" * 2)
    assert "is cut off" in refusal(str(file)).message


def test_damage_inside_the_footer_or_a_column(tmp_path):
    file = write(tmp_path / "a.parquet", text=[f"text {i}" for i in range(2000)])
    good = file.read_bytes()
    file.write_bytes(good[:-8] + b"\xff\xff\xff\x00" + b"PAR1")
    assert f"data.path: {file} cannot be read" in refusal(str(file)).message
    file.write_bytes(good[:4] + b"\xff" * (len(good) // 2) + good[4 + len(good) // 2 :])
    source = open_source(str(file))
    with pytest.raises(DataError, match=r"data\.path: column 'text' of .*a\.parquet cannot be read") as caught:
        source.column("text")
    assert "\n" not in caught.value.message


def test_columns_that_are_not_alike_in_every_file_are_left_out_and_refused(tmp_path):
    a = write(tmp_path / "a.parquet", text=["x"], labels=[1])
    b = write(tmp_path / "b.parquet", text=["y"], labels=["one"], more=[2])
    source = open_source(str(tmp_path))
    assert source.column_names == ["text"]
    assert source.column("text").to_pylist() == ["x", "y"]
    missing = f"column 'more' of {b} is missing in {a}"
    odd = f"column 'labels' is int64 in {a} and string in {b}"
    assert source.notes == ("the columns 'more', 'labels' are left out: not every file has them in one type",)
    for name, message in (("more", missing), ("labels", odd)):
        with pytest.raises(DataError) as caught:
            source.column(name)
        assert caught.value.message == f"data.path: {message}"
    write(b, text=["y"])
    source = open_source(str(tmp_path))
    assert source.notes == (f"column 'labels' of {a} is missing in {b}, so it is left out",)
    with pytest.raises(DataError, match=rf"column 'labels' of {a} is missing in {b}"):
        source.column("labels")


def test_files_without_a_column_in_common(tmp_path):
    a = write(tmp_path / "a.parquet", text=["x"])
    b = write(tmp_path / "b.parquet", labels=[1])
    assert refusal(str(tmp_path)).message == f"data.path: column 'text' of {a} is missing in {b}"


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    file = write(tmp_path / "a.parquet", texts=["x"], label=[1])
    source = open_source(str(file))
    with pytest.raises(DataError) as caught:
        source.column("labels")
    assert caught.value.message == f"there is no column 'labels' in {file}. Did you mean 'label'?"
    assert caught.value.hint == "Its columns: texts (string), label (int64)."


def test_a_column_name_that_is_there_twice(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"]), file)
    with pytest.raises(DataError, match="has 2 columns named 'n'"):
        open_source(str(file)).column("n")


def test_a_column_comes_in_pieces_that_are_not_kept(tmp_path, monkeypatch):
    words = [None if n % 7 == 0 else f"word {n % 3}" for n in range(10_000)]
    write(tmp_path / "a.parquet", n=range(10_000), word=pa.array(words).dictionary_encode())
    write(tmp_path / "b.parquet", n=range(10_000, 10_005), word=pa.array(["x"] * 5).dictionary_encode())
    source = open_source(str(tmp_path))
    for name in ("n", "word"):
        pieces = [values for _, values in source.stream(name)]
        assert max(map(len, pieces)) <= 4096
        assert [value for piece in pieces for value in piece.to_pylist()] == source.column(name).to_pylist()
    with pytest.raises(DataError, match="there is no column 'N'"):
        next(source.stream("N"))
    pieces = (values for _, values in source.stream("n"))
    next(pieces)
    write(tmp_path / "a.parquet", n=range(1, 10_001), word=pa.array(words).dictionary_encode())
    with pytest.raises(DataError, match="has changed since the run opened it"):
        list(pieces)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read(tmp_path):
    file = write(tmp_path / "a.parquet", n=[1])
    file.chmod(0)
    assert refusal(str(file)).message == f"data.path: {file} cannot be read: Permission denied"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc for a file that fails when read")
def test_a_file_that_fails_when_read():
    assert refusal("/proc/self/mem").message == "data.path: /proc/self/mem cannot be read: Input/output error"


def test_class_names_from_hugging_face_metadata_and_from_the_plain_key(tmp_path):
    features = {"kind": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "n": {"dtype": "int64", "_type": "Value"}}
    hugging = {"huggingface": json.dumps({"info": {"features": features}})}
    source = open_source(str(write(tmp_path / "a.parquet", hugging, kind=[0, 1], n=[1, 2])))
    assert source.label_names("kind") == ["cat", "dog"]
    assert source.label_names("n") is None
    plain = {"label_names": '["no", "yes"]', "huggingface": "not JSON"}
    assert open_source(str(write(tmp_path / "b.parquet", plain, labels=[0]))).label_names() == ["no", "yes"]
    for damaged in ({"label_names": "[1, 2]"}, {"label_names": "{"}, {"huggingface": "[]"}):
        assert open_source(str(write(tmp_path / "c.parquet", damaged, labels=[0]))).label_names() is None


def test_files_that_disagree_on_class_names(tmp_path):
    write(tmp_path / "a.parquet", {"label_names": '["no", "yes"]'}, labels=[0])
    write(tmp_path / "b.parquet", {"label_names": '["yes", "no"]'}, labels=[0])
    with pytest.raises(DataError, match="the files disagree on the class names of column 'labels'"):
        open_source(str(tmp_path)).label_names()


def test_the_torch_free_part_imports_no_torch():
    code = """
import sys
import deeptune.data.images.decode, deeptune.data.sources.source, deeptune.data.splits.planner
import deeptune.tasks.label_columns
heavy = {"torch", "torchvision", "transformers", "timm", "pandas", "sklearn"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_planning_a_classification_computes_nothing_with_scipy():
    """A run's first step waits for what its plan imports."""
    code = """
import sys
from deeptune.data.splits.planner import draft_plan
from deeptune.spec.run_spec import RunSpec
draft_plan(RunSpec.model_validate({"data": {"train": "sample:openclipart7"}, "backbone": {"name": "resnet18"}}))
heavy = {"torch", "sklearn", "scipy.special", "scipy.optimize"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_linked_folder_is_read_and_a_loop_ends(tmp_path):
    table = pa.table({"text": ["a"] * 3, "labels": ["x"] * 3})
    (tmp_path / "data").mkdir()
    (tmp_path / "disk").mkdir()
    pq.write_table(table, tmp_path / "data" / "a.parquet")
    pq.write_table(table, tmp_path / "disk" / "b.parquet")
    (tmp_path / "data" / "more").symlink_to("../disk")
    (tmp_path / "disk" / "back").symlink_to("../data")
    assert open_source(str(tmp_path / "data")).num_rows == 6


def test_a_column_in_the_names_of_folders_is_named(tmp_path):
    for value in ("red", "blue"):
        folder = tmp_path / "data" / f"labels={value}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"text": ["a"] * 3}), folder / "part.parquet")
    source = open_source(str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"in the names of folders \(labels=blue\)"):
        source.require("labels", key="data.label")
    with pytest.raises(DataError, match="there is no column 'label' in"):
        source.require("label")


def test_data_of_a_folder_that_is_not_read_is_told(tmp_path):
    write(tmp_path / "a.parquet", n=[1])
    write(tmp_path / "B.PARQUET", n=[2])
    write(tmp_path / "c.pq", n=[3])
    assert open_source(str(tmp_path)).notes == ()
    assert open_source(str(tmp_path)).num_rows == 3
    for name in ("more.csv", "deep.jsonl", "state.json", "README.md", "_SUCCESS", ".a.parquet.crc"):
        (tmp_path / name).write_text("a,b")
    (note,) = open_source(str(tmp_path)).notes
    assert note.endswith("holds Parquet files, and only these are read: deep.jsonl, more.csv are left out")
    assert open_source(str(tmp_path / "a.parquet")).notes == ()


@pytest.mark.parametrize("named", [".", "*.parquet", "b.parquet"])
def test_a_link_that_leads_nowhere_is_no_file_less(tmp_path, named):
    write(tmp_path / "a.parquet", n=[1])
    (tmp_path / "b.parquet").symlink_to("/nowhere/b.parquet")
    error = refusal(str(tmp_path / named))
    assert error.message == f"data.path: {tmp_path}/b.parquet is a link to /nowhere/b.parquet, which is not there"


def test_a_pattern_takes_folders_of_parts_as_tables(tmp_path):
    write(tmp_path / "day1.parquet" / "part-0.parquet", n=[1])
    write(tmp_path / "day2.parquet" / "part-0.parquet", n=[2])
    write(tmp_path / "day3.parquet", n=[3])
    assert open_source(str(tmp_path / "day*.parquet")).column("n").to_pylist() == [1, 2, 3]
    (tmp_path / "other").mkdir()
    assert "matches folders alone, such as" in refusal(str(tmp_path / "o*")).message


@pytest.mark.parametrize(
    "address", ["https://a.org/x.parquet", "s3://b/x.parquet", "hf://datasets/a/x.parquet", "file:///x.parquet"]
)
def test_an_address_is_no_missing_file(address):
    assert refusal(address).message == f"data.path: {address} is an address, and nothing is downloaded"


def test_what_a_compressed_file_is_and_how_to_unpack_it(tmp_path):
    import bz2
    import lzma

    for name, pack, words in (("a.parquet.bz2", bz2.compress, "bzip2"), ("a.parquet.xz", lzma.compress, "xz")):
        (tmp_path / name).write_bytes(pack(b"a,b"))
        assert refusal(str(tmp_path / name)).message.endswith(f"is not a Parquet file but compressed with {words}")


def test_a_column_that_is_encrypted_is_not_called_damaged(tmp_path):
    import pyarrow.parquet.encryption as keys

    class Keys(keys.KmsClient):
        def wrap_key(self, key, _name):
            return key.hex()

        def unwrap_key(self, key, _name):
            return bytes.fromhex(key)

    plan = keys.EncryptionConfiguration("key", column_keys={"key": ["labels"]}, plaintext_footer=True)
    properties = keys.CryptoFactory(lambda _: Keys()).file_encryption_properties(keys.KmsConnectionConfig(), plan)
    pq.write_table(pa.table({"labels": ["a"], "n": [1]}), tmp_path / "a.parquet", encryption_properties=properties)
    source = open_source(str(tmp_path / "a.parquet"))
    with pytest.raises(DataError, match=r"column 'labels' of .*a.parquet is encrypted"):
        source.column("labels")


def test_a_split_of_an_import_that_one_file_lacks_is_refused(tmp_path):
    kept = json.dumps({"roles": {"split": "split"}}).encode()
    table = pa.table({"text": ["x", "y"], "split": ["train", "test"]}).replace_schema_metadata({b"deeptune": kept})
    pq.write_table(table, tmp_path / "a.parquet")
    assert imported_split(open_source(str(tmp_path))) == "split"
    write(tmp_path / "b.parquet", text=["z"])
    with pytest.raises(DataError, match=r"column 'split' of .*a.parquet is missing in .*b.parquet"):
        imported_split(open_source(str(tmp_path)))
