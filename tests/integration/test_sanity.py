"""A run that learned nothing, or whose outputs can't be relied on, says so at once and first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch import Tensor

from deeptune.backbones.image_backbone import ImageBackbone
from deeptune.cli.summary import print_summary
from deeptune.engine.run import execute
from deeptune.report import write_report
from deeptune.runs import RunDirectory, new_run_directory, read_records
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture
def train(image_file: Callable[..., Path], tmp_path: Path) -> Callable[..., RunDirectory]:
    def run(
        name: str = "resnet18", method: str = "partial", task: str = "classification", **options: Any
    ) -> RunDirectory:
        spec = {
            "task": task,
            "data": {"path": str(tmp_path / "images.parquet")},
            "backbone": {"name": name, "weights": "random", "image_size": 32},
            "tuning": {"method": method},
            "train": {"epochs": 2, "device": "cpu", **options},
        }
        directory = new_run_directory(tmp_path / "runs", "test")
        execute(validate(spec), directory)
        return directory

    image_file()
    return run


def warnings_of(run: RunDirectory) -> list[tuple[str, str]]:
    """Phase and message of each warning."""
    found, phase = [], ""
    for event in read_records(run.events):
        phase = event.get("phase", phase)
        if event["kind"] == "warning":
            found.append((phase, event["message"]))
    return found


def test_features_near_zero_are_told_before_the_first_step(train):
    """EfficientNet with random weights in eval mode: 1e-14."""
    run = train("efficientnet_b0")
    events = read_records(run.events)
    told = next(i for i, event in enumerate(events) if "features near zero" in str(event.get("message")))
    first = next(i for i, event in enumerate(events) if event["kind"] == "step")
    assert told < first


def test_a_diverging_run_says_so_while_it_trains_and_first_when_it_ends(train, capsys):
    run = train(method="full", start="random", learning_rate=100.0, head_learning_rate=100.0, warmup=0.0)
    found = warnings_of(run)
    assert [phase for phase, message in found if message.startswith("training diverges: the val loss is")] == ["train"]
    result = json.loads(run.result.read_text())
    assert result["worse_than_constant"].startswith("the model is worse than a constant: its test loss is")
    assert result["worse_than_constant"] in [message for _, message in found]
    assert result["warnings"] == len(found)
    write_report(run.path)
    assert '<p class="doubt">The model is worse than a constant' in run.report.read_text()
    print_summary(run)
    text = capsys.readouterr().out
    assert text.count("worse than a constant") == 1
    assert text.index("worse than a constant") < text.index("Test metrics")


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_run_that_learned_is_not_doubted(train, image_file, task):
    if task == "regression":
        image_file(labels=[float(row % 2) for row in range(24)])
    run = train(task=task, epochs=20)
    assert "worse_than_constant" not in json.loads(run.result.read_text())
    assert [message for phase, message in warnings_of(run) if phase != "data"] == []  # the pictures are two


def test_the_constant_of_unequal_classes_is_their_shares(train, image_file):
    """Nine of ten are blue: what always says so is right nine times of ten, with the loss of that."""
    colours = ["blue"] * 90 + ["red"] * 10
    picture = pq.read_table(image_file())["images"][0].as_py()
    image_file(images=[picture] * 100, labels=colours)
    run = train(method="full", start="random", learning_rate=100.0, head_learning_rate=100.0, warmup=0.0)
    truth = np.array(pq.read_table(run.predictions)["truth"].to_pylist())
    share = (truth == "blue").mean()
    loss = -(share * np.log(0.9) + (1 - share) * np.log(0.1))
    assert (
        f", and {loss:.3g} when every row is given the class shares"
        in json.loads(run.result.read_text())["worse_than_constant"]
    )


def test_outputs_that_depend_on_the_batch_are_told(train, monkeypatch):
    own = ImageBackbone.normalised

    def leaking(self: ImageBackbone, inputs: dict[str, Tensor]) -> Tensor:
        images = own(self, inputs)
        return images - images.mean(dim=0, keepdim=True)  # of all rows of the batch

    monkeypatch.setattr(ImageBackbone, "normalised", leaking)
    run = train()
    told = [message for _, message in warnings_of(run) if "depends on the rows that share its batch" in message]
    assert len(told) == 1
    assert "the probabilities of 4 training rows change by up to" in told[0]
