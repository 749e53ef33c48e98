"""What the commands say of a run that failed before it had a model."""

from __future__ import annotations

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
