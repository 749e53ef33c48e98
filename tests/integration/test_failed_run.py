"""What the commands say of a run that failed before it had a model."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("verb", ["predict", "evaluate", "embed"])
def test_a_run_without_a_model_is_one_message(command, verb, image_file):
    failed = command(
        "run", "--foreground", "--data", "missing.parquet", "--set", "backbone.name=resnet18",
        "--set", "backbone.weights=random",
    )  # fmt: skip
    assert failed.code == 3
    output = [] if verb == "evaluate" else ["--output", "out.parquet"]
    answer = command(verb, "latest", "--data", str(image_file()), *output)
    assert answer.code == 6
    assert "manifest.json is missing" in answer.stderr
    assert "did not get that far" in answer.stderr
    assert "Traceback" not in answer.stderr
