"""The proof that a stored model is the trained one, on devices whose passes repeat and on others."""

from __future__ import annotations

import pytest
import torch

from deeptune.backbones import load_backbone
from deeptune.engine.device import choose_compute
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.reload_comparison import TOLERANCE, logits_in_parts, require_same
from deeptune.errors import CheckpointError
from deeptune.model.build import build_model
from deeptune.spec.toml import validate

CPU = choose_compute("cpu")
INPUTS = {"images": torch.arange(8 * 3 * 32 * 32).reshape(8, 3, 32, 32).remainder(251).to(torch.uint8)}


@pytest.fixture
def pair():
    """Two models with the same random weights."""
    spec = validate(
        {
            "data": {"path": "none.parquet"},
            "backbone": {"name": "timm:test_resnet", "weights": "random", "image_size": 32},
            "tuning": {"method": "full"},
        }
    )

    def make():
        torch.manual_seed(0)
        return build_model(spec, load_backbone(spec.backbone, seed=0), 2)

    return make(), make()


def compared(pair, logits=None, precision="fp32"):
    logits = logits or logits_in_parts(INPUTS, CPU, MicroBatcher())
    return require_same(*pair, logits, precision=precision, place="best")


def noisy(size: float):
    """A device whose passes differ by up to `size` from each other."""
    exact, drawn = logits_in_parts(INPUTS, CPU, MicroBatcher()), torch.Generator().manual_seed(0)
    return lambda model: exact(model) + size * torch.rand(8, 2, generator=drawn)


def test_equal_models_are_the_same_and_nothing_is_said(pair) -> None:
    logits, said = compared(pair)
    assert logits.shape == (8, 2)
    assert said is None
    assert pair[0].training


def test_one_changed_bit_of_a_tensor_is_another_model(pair) -> None:
    with torch.no_grad():
        pair[1].last_layer.bias.view(torch.int32)[0] ^= 1
    with pytest.raises(CheckpointError, match=r"1 of \d+ tensors differ, 'head"):
        compared(pair)


def test_a_model_that_agrees_with_itself_gets_no_tolerance(pair) -> None:
    exact = logits_in_parts(INPUTS, CPU, MicroBatcher())
    with pytest.raises(CheckpointError, match="the logits of 8 rows differ by up to"):
        compared(pair, lambda model: exact(model) + (1e-6 if model is pair[1] else 0))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_device_whose_passes_differ_is_given_a_tolerance_and_the_run_says_so(pair, precision) -> None:
    _, said = compared(pair, noisy(TOLERANCE[precision] / 2), precision)
    assert said is not None
    assert "two passes of one model differ" in said
    assert "bit for bit" in said


def test_a_difference_beyond_the_tolerance_is_refused_on_any_device(pair) -> None:
    with pytest.raises(CheckpointError, match="the logits of 8 rows"):
        compared(pair, noisy(100.0))


def test_rows_that_do_not_fit_together_are_compared_in_parts(pair) -> None:
    told: list[str] = []
    for model in pair:

        def refuse(module, inputs):
            if len(inputs[0]["images"]) > 2:
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

        model.register_forward_pre_hook(refuse)
    logits, said = compared(pair, logits_in_parts(INPUTS, CPU, MicroBatcher(told.append)))
    assert logits.shape == (8, 2)
    assert said is None
    assert any("continuing with 2" in text for text in told)
