"""Whole runs on a GPU, or on a simulated one: from training to each command that uses the model."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from devices import DEVICE, SIMULATED, gpu_only
from faults.killing import small_sample

from deeptune.engine.extraction_job import PendingOutputs
from deeptune.engine.optimizer_step import Stepper
from deeptune.runs import RunDirectory

pytestmark = [gpu_only, pytest.mark.usefixtures("no_reports")]

IMAGE = ("backbone.name=timm:test_resnet", "backbone.weights=random", "backbone.image_size=32")
RUNS = {
    "image-full": (*IMAGE, "tuning.method=full", "train.precision=fp32"),
    "image-full-fp16": (*IMAGE, "tuning.method=full", "train.precision=fp16", "train.optimizer=sgd"),
    "image-lora": (*IMAGE, "tuning.method=lora", "train.precision=fp32", "train.workers=1"),
    "image-two-layers": (*IMAGE, "tuning.method=partial", "head.layers=2", "train.precision=fp32"),
    "image-exact": (*IMAGE, "tuning.method=partial", "train.precision=fp32"),
    "text-full": ("tuning.method=full", "train.precision=fp32"),
    "text-lora-bf16": ("tuning.method=lora", "train.precision=bf16"),
    "text-unfreeze": ("tuning.unfreeze=1", "train.precision=fp32"),
}
LESS_PRECISE = ("image-full-fp16", "text-lora-bf16")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return {
        "image": small_sample("openclipart7", root / "images.parquet"),
        "text": small_sample("movie_snippets", root / "texts.parquet"),
    }


def probabilities(table) -> np.ndarray:
    return np.array(table["probabilities"].to_pylist())


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_trains_and_is_used_as_on_the_cpu(kind, samples, review_bert, command, tmp_path) -> None:
    data = samples[kind.partition("-")[0]]
    backbone = () if kind.startswith("image") else (f"backbone.name=hf:{review_bert}", "backbone.max_length=32")
    steps = () if kind == "image-exact" else ("train.epochs=2",)
    spec = [f"data.path={data}", *backbone, *RUNS[kind], *steps]

    def run(device: str):
        settings = [*spec, f"train.device={device}", f"name={device}"]
        if device == "cpu":
            settings = [one.replace("fp16", "fp32") for one in settings]
        options = [part for setting in settings for part in ("--set", setting)]
        answer = command("run", "--foreground", "--plain", *options)
        assert answer.code == 0, answer.stderr
        assert f"device {device}" in answer.stdout
        return RunDirectory(next((tmp_path / "runs").glob(f"{device}-*")))

    there, here = run(DEVICE), run("cpu")
    stored, expected = (pq.read_table(one.predictions) for one in (there, here))
    # Two trainings: the rows, their order and the arithmetic are the same.
    tolerance = 0.05 if kind in LESS_PRECISE else 1e-3
    np.testing.assert_allclose(probabilities(stored), probabilities(expected), atol=tolerance)

    for arguments in (
        ("predict", there.path, "--data", data, "-o", "again.parquet"),
        ("evaluate", there.path, "--data", data),
        ("embed", there.path, "--data", data, "-o", "vectors.parquet"),
        ("explain", there.path, "--data", data, "--rows", "0", "-o", "explained"),
    ):
        answer = command(*map(str, arguments))
        assert answer.code == 0, (arguments[0], answer.stderr)
    again = pq.read_table(tmp_path / "again.parquet").take(stored["row"])
    np.testing.assert_allclose(probabilities(again), probabilities(stored), atol=2e-3)
    vectors = pq.read_table(tmp_path / "vectors.parquet")["embedding"].combine_chunks().flatten().to_numpy()
    assert np.isfinite(vectors).all()


@pytest.mark.skipif(not SIMULATED, reason="only the simulated GPU counts")
@pytest.mark.parametrize("kind", ["image-full", "image-two-layers"])
def test_the_cpu_waits_for_the_gpu_in_no_step_and_once_for_a_batch_of_features(
    kind, samples, command, monkeypatch, tmp_path
) -> None:
    from simulated_gpu import gpu

    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))  # no features of another test
    found: dict[str, list[int]] = {"step": [], "collect": []}

    def counted(name: str, plain):
        def call(*arguments):
            before = gpu.waits
            result = plain(*arguments)
            found[name].append(gpu.waits - before)
            return result

        return call

    monkeypatch.setattr(Stepper, "step", counted("step", Stepper.step))
    monkeypatch.setattr(PendingOutputs, "collect", counted("collect", PendingOutputs.collect))
    steps = ("train.batch_size=16", "train.epochs=2", "embed.splits=[]")
    settings = (f"data.path={samples['image']}", *RUNS[kind], *steps)
    answer = command("run", "--foreground", "--plain", *(part for one in settings for part in ("--set", one)))
    assert answer.code == 0, answer.stderr
    assert len(found["step"]) >= 14  # of 112 rows, in each of two epochs
    assert set(found["step"]) == {0}
    assert found["collect"]
    assert set(found["collect"]) == {1}
