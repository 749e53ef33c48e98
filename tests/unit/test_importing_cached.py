"""Sources that a run is given in place of Parquet files: imported once, found again, made again."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
from pictures import png

from deeptune.data.cache.entry import EntryInfo, cache_folder, entries
from deeptune.data.sources.parquet import open_source
from deeptune.data.splits.planner import draft_plan
from deeptune.errors import DataError
from deeptune.importing import cached
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cached, "_held", {})


@pytest.fixture
def photos(tmp_path):
    for split in ("train", "val", "test"):
        for name in ("cats", "dogs"):
            for place in range(4):
                file = tmp_path / "photos" / split / name / f"{place}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(png(colour=(place, len(name + split), name == "cats")))
    return tmp_path / "photos"


def test_a_folder_of_pictures_is_a_source_with_its_splits(photos):
    spec = validate({"data": {"path": str(photos)}, "backbone": {"name": "resnet18"}})
    plan = draft_plan(spec).finish(lambda source, rows: [])
    assert {split: len(data) for split, data in plan.splits.items()} == {"train": 8, "val": 8, "test": 8}
    assert any("photos (folder of pictures) was imported: 24 rows" in note for note in plan.notes)


def test_a_source_is_imported_once(photos, monkeypatch):
    first = open_source(str(photos))
    monkeypatch.setattr(cached, "import_data", lambda *_, **__: 1 / 0)
    assert open_source(str(photos)).files == first.files
    assert [entry.what for entry in entries()] == [f"import of {photos}"]


def test_a_source_that_changed_is_imported_again(photos):
    before = open_source(str(photos)).fingerprint()
    (photos / "train" / "cats" / "9.png").write_bytes(png())
    after = open_source(str(photos))
    assert (after.num_rows, after.fingerprint() == before) == (25, False)


def test_an_import_that_was_removed_is_made_again_with_the_same_bytes(photos, monkeypatch):
    before = open_source(str(photos)).fingerprint()
    shutil.rmtree(cache_folder() / "imports")
    monkeypatch.setattr(cached, "_held", {})
    assert open_source(str(photos)).fingerprint() == before


def test_an_import_that_is_read_is_not_removed_for_room(photos):
    folder = open_source(str(photos)).files[0].parent
    assert EntryInfo.read(folder).remove() is False
    assert folder.exists()


def test_a_folder_with_parquet_files_keeps_its_meaning(photos):
    pq.write_table(pq.read_table(open_source(str(photos)).files[0]).slice(0, 5), photos / "rows.parquet")
    found = open_source(str(photos))
    assert (found.num_rows, found.notes) == (5, ())


def test_a_parquet_file_of_another_name_is_read_as_it_is(photos, tmp_path):
    shutil.copy(open_source(str(photos)).files[0], tmp_path / "data.csv")
    assert open_source(str(tmp_path / "data.csv")).notes == ()


def test_files_of_splits_may_be_tables(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("text,labels\n" + "".join(f"{split} {i},{i % 2}\n" for i in range(20)))
    data = {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    plan = draft_plan(validate({"data": data, "backbone": {"name": "bert"}})).finish(lambda source, rows: [])
    assert len(plan.splits["test"]) == 20
    assert len(plan.notes) == 2


def test_the_key_is_named_where_an_import_fails(tmp_path):
    (tmp_path / "data.csv").write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match=r"data.train: .*data.csv: the first row names 'a' twice"):
        open_source(str(tmp_path / "data.csv"), key="data.train")
    assert not list((tmp_path / "cache").rglob("*.parquet"))


def test_names_of_pictures_start_at_the_root(photos, tmp_path):
    (tmp_path / "labels.csv").write_text("images,labels\ntrain/cats/0.png,1\ntrain/dogs/0.png,0\n")
    source = open_source(str(tmp_path / "labels.csv"), root=str(photos))
    assert source.column("images").to_pylist()[0] == (photos / "train/cats/0.png").read_bytes()


def test_messages_name_what_was_imported_and_not_the_cache(tmp_path):
    (tmp_path / "sizes.csv").write_text("height,price\n1,2\n3,4\n")
    spec = validate({"data": {"path": str(tmp_path / "sizes.csv")}, "backbone": {"name": "resnet18"}})
    with pytest.raises(DataError, match=r"data\.input: \S*sizes\.csv has neither a column"):
        draft_plan(spec)


def test_a_message_names_the_file_that_was_given(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text("text,label\ngood,a\nbad,b\n")
    source = open_source(str(file))
    assert source.describe() == str(file)
    with pytest.raises(DataError, match=rf"there is no column 'labels' in {file}\. Did you mean 'label'\?"):
        source.require("labels", key="data.label")
