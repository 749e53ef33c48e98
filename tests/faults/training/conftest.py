"""A small run on real pictures, which tests of faults hinder in many ways."""

from __future__ import annotations

import pytest
from devices import ON_DEVICE
from faults.killing import small_sample
from faults.small_runs import LONG, finish, new_run

from deeptune.spec.toml import validate


@pytest.fixture(scope="session")
def spec_of(tmp_path_factory):
    """`spec_of("lora", epochs=4)`: a small run on real pictures, by default of every weight."""
    data = small_sample("openclipart7", tmp_path_factory.mktemp("data") / "images.parquet")

    def make(method="full", **settings):
        return validate(
            {
                "data": {"path": str(data), "split": {"train": 0.6, "val": 0.2, "test": 0.2}},
                "backbone": {"name": "timm:test_resnet", "weights": "random", "image_size": 32},
                "tuning": {"method": method},
                "train": {"epochs": 2, "batch_size": 16, **ON_DEVICE, "workers": 0, **settings},
            }
        )

    return make


@pytest.fixture(scope="session")
def left_alone(tmp_path_factory, spec_of):
    return finish(new_run(tmp_path_factory.mktemp("alone"), spec_of(**LONG)))
