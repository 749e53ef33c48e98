"""What fine-tuning starts from where the spec leaves it open."""

from __future__ import annotations

import pytest

from deeptune.spec.defaults import fits_head_first, train_start
from deeptune.spec.toml import validate


@pytest.mark.parametrize(
    ("weights", "text_weights", "start", "expected"),
    [
        ("pretrained", None, "auto", "head"),
        ("random", None, "auto", "random"),
        ("mine.safetensors", None, "auto", "head"),
        ("random", "pretrained", "auto", "head"),
        ("random", "random", "auto", "random"),
        ("random", None, "head", "head"),
        ("pretrained", None, "random", "random"),
    ],
)
def test_random_weights_have_no_head_worth_starting_from(weights, text_weights, start, expected):
    backbone = {"name": "resnet18", "weights": weights}
    if text_weights is not None:
        backbone["text"] = {"name": "bert", "weights": text_weights}
    spec = validate(
        {
            "data": {"path": "a.parquet"},
            "backbone": backbone,
            "tuning": {"method": "full"},
            "train": {"start": start},
        }
    )
    assert train_start(spec) == expected
    assert fits_head_first(spec) == (expected == "head")
