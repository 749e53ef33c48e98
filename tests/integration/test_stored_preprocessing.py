"""A run is used with the preprocessing that it was trained with, whatever the installed libraries say by then."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from deeptune.backbones.torchvision import backbone as torchvision_backbone
from deeptune.data.loading.preprocessing import ImagePreprocessing, stored_preprocessing
from deeptune.engine.prepare import prepare
from deeptune.engine.resume import EarlierAttempt
from deeptune.engine.run import execute
from deeptune.engine.run_logger import RunLogger
from deeptune.runs import RunDirectory, new_run_directory
from deeptune.spec import load_spec
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture
def image_run(image_file: Callable[..., Path], tmp_path: Path) -> RunDirectory:
    spec = {
        "data": {"path": str(image_file())},
        "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
        "train": {"epochs": 1, "device": "cpu"},
    }
    return finished(spec, tmp_path)


@pytest.fixture
def text_run(text_file: Callable[..., Path], tiny_bert: Path, tmp_path: Path) -> RunDirectory:
    spec = {
        "data": {"path": str(text_file())},
        "backbone": {"name": f"hf:{tiny_bert}", "max_length": 4},
        "train": {"epochs": 1, "device": "cpu"},
    }
    return finished(spec, tmp_path)


def finished(spec: dict[str, Any], folder: Path) -> RunDirectory:
    directory = new_run_directory(folder / "runs", "test")
    execute(validate(spec), directory)
    return directory


@pytest.fixture
def another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision resizes, interpolates and scales otherwise than at training."""
    own = torchvision_backbone._preprocessing
    changed = {"resize": 400, "interpolation": "bicubic", "mean": (0.1, 0.9, 0.3), "std": (1.0, 0.1, 0.5)}
    monkeypatch.setattr(torchvision_backbone, "_preprocessing", lambda weights: replace(own(weights), **changed))


def edit(run: RunDirectory, **values: Any) -> None:
    """Change the manifest of the best checkpoint; None takes a key away."""
    file = run.best / "manifest.json"
    manifest = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))


def test_predictions_do_not_change_with_the_librarys_transform(command, image_run, image_file, another_library):
    answer = command("predict", str(image_run.path), "--data", "images.parquet", "--output", "out.parquet")
    assert answer.code == 0, answer.stderr
    then, now = pq.read_table(image_run.predictions), pq.read_table("out.parquet")
    found = np.array(now["probabilities"].to_pylist())[then["row"].to_numpy()]
    assert np.allclose(found, then["probabilities"].to_pylist(), atol=1e-6)
    assert "differ" not in answer.stderr


def test_a_resumed_run_prepares_samples_as_it_did_before(image_run, another_library):
    earlier = EarlierAttempt.read(image_run, RunLogger(image_run), force=False)
    ready = prepare(load_spec(image_run.spec), earlier=earlier)
    stored = json.loads(image_run.run.read_text())["preprocessing"]
    assert stored.pop("value_range") == "none"  # of images of more than 8 bits, which is not part of the backbone's
    assert (stored["resize"], stored["mean"]) == (37, [0.485, 0.456, 0.406])  # 32 × 256 / 224
    assert ready.preprocessing == ImagePreprocessing(
        32, 37, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "center"
    )
    assert ready.backbone.mean.flatten().tolist() == pytest.approx(stored["mean"])


def test_a_run_without_stored_preprocessing_says_so_once(command, image_run):
    edit(image_run, preprocessing=None)
    answer = command("predict", str(image_run.path), "--data", "images.parquet", "--output", "out.parquet")
    assert answer.code == 0, answer.stderr
    assert answer.stderr.count("stored without its preprocessing") == 1


@pytest.mark.parametrize(("damage", "named"), [({"crop_mode": "stretch"}, "crop_mode"), (None, "[1, 2]")])
def test_a_damaged_preprocessing_is_named(command, image_run, damage, named):
    stored = json.loads((image_run.best / "manifest.json").read_text())["preprocessing"]
    edit(image_run, preprocessing=stored | damage if damage else [1, 2])
    answer = command("predict", str(image_run.path), "--data", "images.parquet", "--output", "out.parquet")
    assert answer.code == 6
    assert named in answer.stderr


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"versions": {"torch": "1.0", "timm": "0.1"}}, "other versions than at training (torch 1.0 then, "),
        ({"precision": "bf16"}, "the run was trained and scored in bf16, and this is in fp32 on cpu"),
    ],
)
def test_what_is_other_than_at_training_is_told_in_a_line(command, image_run, values, told):
    edit(image_run, **values)
    if "precision" in values:  # on a device of the same type the run's own precision is used
        image_run.spec.write_text(image_run.spec.read_text().replace('device = "cpu"', 'device = "cuda"'))
    data = ["--data", "images.parquet"]
    for arguments in (
        ["predict", str(image_run.path), *data, "--output", "out.parquet"],
        ["embed", str(image_run.path), *data, "--output", "out.parquet"],
        ["evaluate", str(image_run.path), *data, "--json"],
    ):
        answer = command(*arguments, "--device", "cpu")
        assert answer.code == 0, answer.stderr
        assert sum(line.startswith(told) for line in answer.stderr.splitlines()) == 1
        assert "timm" not in answer.stderr  # which this backbone does not come from


def test_texts_that_are_cut_are_counted(command, text_run, tiny_bert):
    data = ["--data", "text.parquet", "--output", "out.parquet"]
    for arguments in (
        ["predict", str(text_run.path)],
        ["embed", str(text_run.path)],
        ["embed", "--backbone", f"hf:{tiny_bert}", "--max-length", "4"],
    ):
        answer = command(*arguments, *data)
        assert answer.code == 0, answer.stderr
        assert "20 of 24 texts are longer than 4 tokens and were cut" in " ".join(answer.stderr.split())


def test_a_tokenizer_that_gives_other_ids_is_refused(command, text_run):
    file = text_run.backbone / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    first, second = [word for word in vocabulary if "[" not in word][:2]
    content["model"]["vocab"] = vocabulary | {first: vocabulary[second], second: vocabulary[first]}
    content["normalizer"] = {"type": "Lowercase"}
    content["pre_tokenizer"] = {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": False}
    file.write_text(json.dumps(content))
    answer = command("predict", str(text_run.path), "--data", "text.parquet", "--output", "out.parquet")
    assert answer.code == 6
    assert "other token ids" in answer.stderr


def test_a_run_from_before_crop_modes_keeps_the_pixels_that_it_was_trained_on():
    today = ImagePreprocessing(384, 384, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop_mode="squash")
    assert today.restored(stored_preprocessing({})) == replace(today, crop_mode="center")
