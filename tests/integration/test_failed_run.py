"""What the commands say of a run that failed before it had a model."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.mark.parametrize("verb", ["predict", "evaluate", "embed"])
def test_a_run_without_a_model_is_one_message(command, verb, image_file):
    damaged = image_file("damaged.parquet", images=[b"no image"] * 24)
    failed = command(
        "run", "--foreground", "--data", str(damaged), "--set", "backbone.name=resnet18",
        "--set", "backbone.weights=random",
    )  # fmt: skip
    assert failed.code == 3
    output = [] if verb == "evaluate" else ["--output", "out.parquet"]
    answer = command(verb, "latest", "--data", str(image_file()), *output)
    assert answer.code == 6
    assert "manifest.json is missing" in answer.stderr
    assert "did not get that far" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("missing.parquet", "there is no file or folder missing.parquet"),
        ("unlabelled.parquet", "every label in column 'labels' is missing"),
        ("named.parquet", 'Perhaps data.label = "mood" is meant.'),
    ],
)
def test_data_that_is_refused_leaves_the_latest_run_as_it_was(command, tmp_path, image_file, data, says):
    tiny = ["--set", "backbone.name=resnet18", "--set", "backbone.weights=random"]
    image_file("unlabelled.parquet", labels=pa.nulls(24, pa.string()))
    pq.write_table(pa.table({"images": [b"x"] * 4, "mood": ["a", "b"] * 2}), tmp_path / "named.parquet")
    (tmp_path / "runs").mkdir()
    refused = command("run", "--data", data, *tiny)
    assert refused.code == 3
    assert says in refused.stderr
    assert not list((tmp_path / "runs").iterdir())


def test_latest_passes_over_a_run_that_failed_before_it_trained(command, tmp_path, image_file):
    """Its folder stays, as it says why; what is newest to work with is the run before."""
    tiny = [
        "--foreground", "--set", "backbone.name=resnet18", "--set", "backbone.weights=random", "--set",
        "backbone.image_size=32", "--set", "train.epochs=1",
    ]  # fmt: skip
    trained = json.loads(command("run", "--data", str(image_file()), *tiny, "--json").stdout.splitlines()[-1])["run"]
    damaged = image_file("damaged.parquet", images=[b"no image"] * 24)
    assert command("run", "--data", str(damaged), *tiny).code == 3
    (failed,) = (run for run in (tmp_path / "runs").iterdir() if str(run) != trained)
    shown = command("status", "latest")
    assert Path(trained).name in shown.stdout
    assert failed.name not in shown.stdout
    assert f"the newer {failed.name} failed before its training began (deeptune status {failed.name})" in shown.stderr
    assert not command("status", failed.name).stderr
    assert "row 0 is not an image but text" in command("status", failed.name).stdout
