"""Runs with a frozen backbone: which rows pass it, when, and that nothing of the result depends on that."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_runs import BLOCK, LATE, ROWS, entries, log, same_bits

from deeptune.data.loading.features import Features
from deeptune.engine.run import execute
from deeptune.errors import RunStopped
from deeptune.runs import new_run_directory
from deeptune.spec.run_spec import SPLITS


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_second_run_passes_no_row_and_gives_the_same_bits(request, run, passed, modality):
    spec = request.getfixturevalue(f"{modality}_spec")()
    cold = run(spec)
    assert passed() == ROWS
    assert f"{ROWS} rows passed the frozen backbone once; the head trains on their features" in log(cold)
    warm = run(spec)
    assert passed() == 0
    assert f"the features of all {ROWS} rows were in the cache: no row passes the frozen backbone" in log(warm)
    same_bits(cold, warm)


OTHERS = [
    {"train": {"seed": 7}},
    {"train": {"batch_size": 5}},
    {"train": {"learning_rate": 0.5}},
    {"train": {"epochs": 1, "weight_decay": 0.0}},
    {"head": {"layers": 2, "embedding_size": 8, "dropout": 0.5}},
    {"embed": {"splits": []}},
]


@pytest.mark.parametrize("modality", ["image", "text"])
def test_another_head_seed_batch_size_or_learning_rate_needs_no_pass(request, run, passed, modality):
    spec = request.getfixturevalue(f"{modality}_spec")
    run(spec())
    assert passed() == ROWS
    for other in OTHERS:
        assert "no row passes" in log(run(spec(**other))), other
        assert passed() == 0, other
    for split in ({"train": 0.4, "val": 0.2, "test": 0.4}, {"train": 0.8, "val": 0.2, "test": 0.0}):
        run(spec(data={"path": spec().data.path, "split": split}))
        assert passed() == 0


def test_the_bits_do_not_depend_on_the_run_that_filled_the_cache(run, image_spec, cache_folder):
    alone = run(image_spec())
    cache_folder("other")
    run(image_spec(train={"batch_size": 7, "seed": 3, "epochs": 1}))
    after = run(image_spec())
    assert "no row passes" in log(after)
    same_bits(alone, after)


@pytest.fixture
def spoiled(image_data, tmp_path):
    """The clip arts, of which rows 3 and 70 are not images."""
    table = pq.read_table(image_data / "images.parquet")
    images = table["images"].to_pylist()
    for row in (3, 70):
        images[row] = b"no image"
    column = pa.array(images, table["images"].type)
    file = tmp_path / "spoiled.parquet"
    pq.write_table(table.set_column(table.column_names.index("images"), table.schema.field("images"), column), file)
    return str(file)


def test_bad_samples_left_out_or_replaced_share_their_features(run, image_spec, spoiled, passed):
    run(image_spec(data={"path": spoiled, "on_bad_sample": "skip"}))
    assert passed() == ROWS
    blank = run(image_spec(data={"path": spoiled, "on_bad_sample": "blank"}))
    assert passed() == 0
    vectors = {}
    for split in SPLITS:
        for row in pq.read_table(blank.embeddings(split)).to_pylist():
            vectors[row["row"]] = row["embedding"]
    assert vectors[3] == vectors[70]
    assert vectors[3] != vectors[4]


def test_many_rows_without_a_label_do_not_pass(run, image_spec, image_data, passed, tmp_path):
    table = pq.read_table(image_data / "images.parquet")
    labels = [label if row % 2 else None for row, label in enumerate(table["labels"].to_pylist())]
    table = table.set_column(table.column_names.index("labels"), "labels", pa.array(labels, table["labels"].type))
    pq.write_table(table, tmp_path / "half.parquet")
    run(image_spec(data={"path": str(tmp_path / "half.parquet"), "on_bad_sample": "skip"}))
    assert passed() == ROWS // 2


def test_files_apart_have_an_entry_each(run, image_spec, image_data, passed, tmp_path):
    table = pq.read_table(image_data / "images.parquet")
    for name, part in (("train", table.slice(0, 90)), ("test", table.slice(90))):
        pq.write_table(part, tmp_path / f"{name}.parquet")
    data = {"path": None, "train": str(tmp_path / "train.parquet"), "test": str(tmp_path / "test.parquet")}
    first, second = (run(image_spec(data=data)) for _ in range(2))
    assert passed() == ROWS
    assert sorted(entry.rows for entry in entries()) == [60, 90]
    same_bits(first, second)


def test_a_cache_that_cannot_be_written_costs_memory_and_no_run(run, image_spec, tmp_path, monkeypatch, passed):
    usual = run(image_spec())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "file"))
    passed()
    hindered = run(image_spec())
    assert passed() == ROWS
    assert "features are kept in memory, and not for later runs, because" in log(hindered)
    assert "Not a directory" in log(hindered)
    same_bits(usual, hindered)


def test_a_disk_that_fills_up_midway_costs_no_row_twice(run, image_spec, cache_folder, monkeypatch, passed):
    usual = run(image_spec())
    folder = cache_folder("other")
    pwrite, left = os.pwrite, [1]

    def filling_up(handle, content, place):
        if len(content) >= 4096:  # a block
            if not left:
                raise OSError(28, "No space left on device")
            left.pop()
        return pwrite(handle, content, place)

    monkeypatch.setattr(os, "pwrite", filling_up)
    passed()
    hindered = run(image_spec())
    assert passed() <= ROWS + BLOCK + LATE  # but the block that found it full
    assert "No space left on device" in log(hindered)
    assert not any((folder / "features").iterdir())
    same_bits(usual, hindered)


def test_a_limit_that_is_no_size_is_said_and_costs_no_run(run, image_spec, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "much")
    assert "DEEPTUNE_CACHE_LIMIT is 'much'" in log(run(image_spec()))


def test_a_damaged_entry_is_computed_again_and_that_is_said(run, image_spec, passed):
    usual = run(image_spec())
    (entry,) = entries()
    stored = bytearray((entry.folder / "data.bin").read_bytes())
    stored[-3] ^= 4
    (entry.folder / "data.bin").write_bytes(stored)
    passed()
    repaired = run(image_spec())
    assert passed() == ROWS % BLOCK
    assert f"1 of {ROWS} rows of the stored features" in log(repaired)
    assert f"{ROWS % BLOCK} rows passed the frozen backbone once ({4 * BLOCK} more were in the cache)" in log(repaired)
    same_bits(usual, repaired)


def test_a_pass_that_was_stopped_goes_on_where_it_was(run, image_spec, passed, monkeypatch, tmp_path):
    spec = image_spec()
    usual_put = Features.put
    directory = new_run_directory(tmp_path / "runs", "stopped")

    def put(self, *arguments):
        usual_put(self, *arguments)
        if self.records.done.sum() == 2 * BLOCK:
            raise RunStopped("stopped by a test")

    with monkeypatch.context() as patch:
        patch.setattr(Features, "put", put)
        with pytest.raises(RunStopped):
            execute(spec, directory)
    assert passed() == 2 * BLOCK + LATE
    execute(spec, directory)
    assert passed() == ROWS - 2 * BLOCK
    same_bits(directory, run(spec))
