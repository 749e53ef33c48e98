"""Small runs on images and texts, and a count of the rows that passed a backbone."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from devices import ON_DEVICE
from feature_runs import BLOCK, ROWS, merged
from safetensors.torch import save_file

from deeptune.backbones.base import Backbone
from deeptune.data.sources.parquet import open_source
from deeptune.engine import extraction_job, predict
from deeptune.engine.run import execute
from deeptune.engine.verify import CHECK_ROWS
from deeptune.runs import RunDirectory, new_run_directory
from deeptune.spec.toml import validate


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """An empty cache for each test; `cache_folder("name")` goes over to another one."""

    def use(name: str) -> Path:
        monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / name))
        return tmp_path / name

    use("cache")
    return use


@pytest.fixture(autouse=True)
def _blocks_as_on_the_cpu(monkeypatch):
    for module in (extraction_job, predict):
        monkeypatch.setattr(module, "rows_at_once", lambda device: BLOCK)


@pytest.fixture(scope="module")
def image_data(tmp_path_factory):
    """150 clip arts, and weights of a small backbone for them."""
    folder = tmp_path_factory.mktemp("images")
    table = pq.read_table(open_source("sample:openclipart7").files[0])
    pq.write_table(table.take(list(range(0, table.num_rows, table.num_rows // ROWS))[:ROWS]), folder / "images.parquet")
    for name, seed in (("weights", 1), ("other", 2)):
        spec = validate({"data": {"path": "x"}, "backbone": {"name": "timm:test_resnet", "weights": "random"}})
        from deeptune.backbones import load_backbone

        net = load_backbone(spec.backbone, seed=seed).net
        save_file({key: value.contiguous() for key, value in net.state_dict().items()}, folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def text_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    table = pq.read_table(open_source("sample:movie_snippets").files[0])
    pq.write_table(table.take(list(range(0, table.num_rows, table.num_rows // ROWS))[:ROWS]), folder / "texts.parquet")
    return folder


@pytest.fixture
def image_spec(image_data):
    return lambda **parts: merged(
        {
            "data": {"path": str(image_data / "images.parquet"), "split": {"train": 0.5, "val": 0.25, "test": 0.25}},
            "backbone": {
                "name": "timm:test_resnet",
                "weights": str(image_data / "weights.safetensors"),
                "image_size": 32,
            },
            "train": {"epochs": 3, "batch_size": 16, **ON_DEVICE, "workers": 0},
        },
        parts,
    )


@pytest.fixture
def text_spec(text_data, review_bert):
    return lambda **parts: merged(
        {
            "data": {"path": str(text_data / "texts.parquet"), "split": {"train": 0.5, "val": 0.25, "test": 0.25}},
            "backbone": {"name": f"hf:{review_bert}", "max_length": 32},
            "train": {"epochs": 3, "batch_size": 16, **ON_DEVICE},
        },
        parts,
    )


@pytest.fixture
def passed(monkeypatch):
    """How many rows passed the backbone, but for the few by which a stored model is checked."""
    counts = []
    forward = Backbone.forward

    def counting(self, inputs):
        rows = len(next(iter(inputs.values())))
        if rows > CHECK_ROWS:
            counts.append(rows)
        return forward(self, inputs)

    monkeypatch.setattr(Backbone, "forward", counting)

    def since_the_last_time():
        found = sum(counts)
        counts.clear()
        return found

    return since_the_last_time


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("deeptune.engine.run.write_report", lambda path: None)  # half of the time of so small a run

    def do(spec) -> RunDirectory:
        directory = new_run_directory(tmp_path / "runs", "test")
        execute(spec, directory)
        return directory

    return do
