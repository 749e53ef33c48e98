"""Counts and estimates before a run are those of the built model."""

from __future__ import annotations

from typing import Any

import pytest

from deeptune.backbones import load_backbone
from deeptune.catalog import CATALOG, find
from deeptune.data.loading.batch_order import batch_slices
from deeptune.engine.loop import steps_per_epoch
from deeptune.engine.optimizers import make_optimizer
from deeptune.model.build import build_model
from deeptune.spec.defaults import resolve
from deeptune.spec.estimate import Counts, count_parameters, count_steps, estimate_memory
from deeptune.spec.optimizers import OPTIMIZERS
from deeptune.spec.toml import validate

OUTPUTS = 7


def spec_with(name: str, **sections: Any):
    backbone = {"name": name, "weights": "random", **sections.pop("backbone", {})}
    return validate({"data": {"path": "x"}, "backbone": backbone, **sections})


def built(spec) -> Counts:
    return Counts(*build_model(spec, load_backbone(spec.backbone, device="meta"), OUTPUTS).counts())


@pytest.mark.parametrize("name", CATALOG)
def test_the_adapters_of_every_backbone_are_counted(name: str) -> None:
    """With DoRA's magnitudes: what PEFT builds from the catalog's targets. test_model_catalog has plain adapters."""
    lora = {"rank": 5, "variant": "dora"}
    spec = spec_with(name, tuning={"method": "lora", "lora": lora}, head={"layers": 2, "embedding_size": 11})
    assert count_parameters(spec, find(name), OUTPUTS) == built(spec)


@pytest.mark.parametrize(
    "sections",
    [
        {"tuning": {"method": "partial"}},
        {"tuning": {"method": "full"}, "head": {"layers": 2}},
        {"tuning": {"method": "lora"}},
        {"tuning": {"method": "full"}, "backbone": {"pooling": "mean"}},
    ],
)
@pytest.mark.parametrize("name", ["resnet18", "vit_b_32", "efficientnet_lite0"])
def test_every_method_is_counted(name: str, sections: dict[str, Any]) -> None:
    spec = spec_with(name, **{**sections, "backbone": {"image_size": 64, **sections.get("backbone", {})}})
    assert count_parameters(spec, find(name), OUTPUTS) == built(spec)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_head_for_ordered_classes_is_counted(layers: int) -> None:
    spec = spec_with("resnet18", task="ordinal", head={"layers": layers})
    assert count_parameters(spec, find("resnet18"), OUTPUTS) == built(spec)


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("timm:resnet18", {}),
        ("vgg11", {"backbone": {"pooling": "mean"}}),
        ("bert", {"backbone": {"pooling": "pooler"}}),
        ("resnet18", {"tuning": {"method": "lora", "lora": {"targets": ["conv1"]}}}),
    ],
)
def test_what_only_the_built_model_knows_is_not_guessed(name: str, sections: dict[str, Any]) -> None:
    spec = spec_with(name, **sections)
    assert count_parameters(spec, find(name), OUTPUTS) == Counts(None, None)
    assert estimate_memory(spec, find(name), OUTPUTS, on_gpu=False) is None


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 66, 129, 1000])
@pytest.mark.parametrize("train", [{}, {"batch_size": 1}, {"batch_size": 64, "accumulation": 3, "epochs": 4}])
def test_the_steps_are_those_of_the_loop(rows: int, train: dict[str, Any]) -> None:
    spec = spec_with("resnet18", train=train)
    resolved = resolve(spec, find("resnet18"), cnn=True, rows=rows)
    batches = len(batch_slices(rows, int(resolved.train.batch_size), training=True))
    steps = steps_per_epoch(batches, resolved.train.accumulation) * int(resolved.train.epochs)
    assert count_steps(spec, find("resnet18"), rows) == steps


@pytest.mark.parametrize("optimizer", [name for name, row in OPTIMIZERS.items() if row.state_bytes])
def test_the_exact_part_of_memory_is_weights_gradients_and_states(optimizer: str) -> None:
    import torch

    spec = spec_with("resnet18", train={"optimizer": optimizer}, tuning={"method": "full"}, head={"layers": 2})
    model = build_model(spec, load_backbone(spec.backbone), OUTPUTS)
    stepper = make_optimizer(model, resolve(spec, find("resnet18"), cnn=True, rows=100).train)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stepper.step()
    states = sum(t.nbytes for state in stepper.state.values() for t in state.values() if torch.is_tensor(t) and t.ndim)
    held = sum(2 * parameter.nbytes for parameter in model.parameters()) + states
    told = estimate_memory(spec, find("resnet18"), OUTPUTS, on_gpu=False)
    assert told is not None
    assert told.exact == held
    assert told.activations > 0


def memory_of(method: str, precision: str, *, on_gpu: bool):
    values = {
        "data": {"path": "none.parquet"},
        "backbone": {"name": "vit_b_16"},
        "tuning": {"method": method},
        "train": {"precision": precision, "batch_size": 1},
    }
    found = estimate_memory(validate(values), find("vit_b_16"), OUTPUTS, on_gpu=on_gpu)
    assert found is not None
    return found


def test_a_gpu_holds_the_context_of_cuda_as_well() -> None:
    gpu, cpu = (memory_of("full", "fp32", on_gpu=on_gpu) for on_gpu in (True, False))
    assert gpu.total - cpu.total == gpu.context - cpu.soup
    assert gpu.context > 0


def test_a_cpu_holds_the_weights_of_the_best_epochs_and_a_gpu_does_not() -> None:
    gpu, cpu, head = (
        memory_of(method, "fp32", on_gpu=on_gpu)
        for method, on_gpu in (("full", True), ("full", False), ("partial", False))
    )
    assert cpu.soup == pytest.approx(3 * 4 * find("vit_b_16").parameters, rel=0.03)
    assert gpu.soup == head.soup == 0


@pytest.mark.parametrize("method", ["full", "lora"])
def test_autocast_keeps_the_weights_in_16_bits_too(method: str) -> None:
    half, full = (memory_of(method, precision, on_gpu=True) for precision in ("bf16", "fp32"))
    assert half.copies == pytest.approx(2 * find("vit_b_16").parameters, rel=0.03)
    assert full.copies == 0
    assert memory_of("partial", "bf16", on_gpu=True).copies == 0


def test_the_verification_has_a_second_model_beside_the_first() -> None:
    found = memory_of("lora", "fp32", on_gpu=False)
    assert found.verification >= 2 * 4 * find("vit_b_16").parameters
    assert found.total >= found.verification
