"""Many images pass a network whose normalisation is folded into its convolutions: its features, but for rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeptune.backbones import load_backbone
from deeptune.data.cache.entry import Cache, entries
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.sources.parquet import open_source
from deeptune.engine import folded_pass
from deeptune.engine.device import Compute
from deeptune.engine.extraction_job import ExtractionJob, FrozenBackbone
from deeptune.engine.feature_extraction import FeatureExtraction
from deeptune.engine.folded_pass import folded, pays_to_fold
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.spec.run_spec import BackboneSpec

CPU = Compute(torch.device("cpu"), None, "a test")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def backbone():
    found = load_backbone(BackboneSpec(name="resnet18", weights="random", image_size=32), seed=0)
    generator = torch.Generator().manual_seed(0)
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # else there is nothing to fold
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    found.arrange("channels_last")
    return found.eval()


def extract(backbone, told: list[str] | None = None):
    source = open_source("sample:digits_rotation")
    with Cache((told if told is not None else []).append) as cache:
        samples = open_samples(source, "images", backbone.preprocessing, cache=cache)
        rows = np.arange(100)
        job = ExtractionJob(FrozenBackbone(backbone, CPU, "images", {source: samples}), source, rows, frozenset())
        extraction = FeatureExtraction(cache, lambda done, total: None, MicroBatcher(), len(rows))
        features = extraction.run(job)
        assert features is not None
        return features.take(rows).copy(), extraction.passed, job.folds_network


def test_features_are_those_of_the_network_and_kept_by_another_name(monkeypatch, backbone):
    plain, passed, is_folded = extract(backbone)
    assert (passed, is_folded) == (100, False)
    monkeypatch.setattr(folded_pass, "MIN_PIXELS", 100 * 32**2)
    quick, passed, is_folded = extract(backbone)
    assert (passed, is_folded) == (100, True)
    assert 0 < np.abs(quick - plain).max() <= 5e-6 * np.abs(plain).max()
    again, passed, _ = extract(backbone)
    assert passed == 0
    assert (again == quick).all()
    assert len([entry for entry in entries() if entry.folder.parent.name == "features"]) == 2


def test_a_pass_that_was_killed_goes_on_to_the_same_bits(monkeypatch, backbone):
    monkeypatch.setattr(folded_pass, "MIN_PIXELS", 1)
    whole, _, _ = extract(backbone)
    for entry in entries():
        if entry.folder.parent.name == "features":
            index = (entry.folder / "index.bin").read_bytes()
            (entry.folder / "index.bin").write_bytes(index[: 32 * 40])  # 40 rows were written
    rest, passed, _ = extract(backbone)
    assert 60 <= passed < 100
    assert (rest == whole).all()


@pytest.mark.parametrize("fault", ["it cannot be made", "it gives other features"])
def test_the_network_itself_passes_where_the_folded_one_cannot_be_used(monkeypatch, backbone, fault):
    plain, _, _ = extract(backbone)
    monkeypatch.setattr(folded_pass, "MIN_PIXELS", 1)
    if fault == "it cannot be made":

        def trace(*arguments, **options):
            raise RuntimeError("no TorchScript here")

        monkeypatch.setattr(torch.jit, "trace", trace)
    else:
        made = folded_pass._forward_of
        monkeypatch.setattr(folded_pass, "_forward_of", lambda net: lambda inputs: made(net)(inputs) * (1 + 1e-4))
    found, passed, is_folded = extract(backbone)
    assert (passed, is_folded) == (0, False)  # the features of the plain network were stored
    assert (found == plain).all()
    assert len([entry for entry in entries() if entry.folder.parent.name == "features"]) == 1


def test_few_rows_other_networks_and_other_precisions_pass_as_they_are(backbone):
    assert pays_to_fold(backbone, CPU, 8192)
    assert not pays_to_fold(backbone, CPU, 8191)
    assert not pays_to_fold(backbone, Compute(torch.device("cpu"), torch.bfloat16, ""), 8192)
    other = load_backbone(BackboneSpec(name="efficientnet_b0", weights="random", image_size=32), seed=0)
    assert not pays_to_fold(other, CPU, 10**6)


def test_any_number_of_rows_passes(backbone):
    images = torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8)
    forward = folded(backbone, images)
    assert forward is not None
    with torch.inference_mode():
        whole = forward({"images": images})
        for count in (1, 2, 8, 9):
            part = forward({"images": images[:count]})
            assert torch.allclose(part, whole[:count], rtol=0, atol=5e-6 * float(whole.abs().max()))
