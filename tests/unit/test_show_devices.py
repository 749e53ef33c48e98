"""Devices as CUDA numbers them, what the driver tells of each, and which one `auto` takes."""

from __future__ import annotations

import sys

import pytest
from drivers import Card, driver

from deeptune.nvml import gpu_of, visible_gpus
from deeptune.show.devices import chosen_device, devices

CARDS = [Card("GPU-aaa", 10), Card("GPU-bbb", 30), Card("GPU-ccc", 20)]


@pytest.mark.parametrize(
    ("visible", "cards"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("GPU-bbb", [1]),
        ("GPU-b,GPU-a", [1, 0]),  # CUDA takes the beginning of a UUID
        ("1,-1,2", [1]),  # CUDA stops at the first that is none
        ("1,1", []),
        ("", []),
    ],
)
def test_gpus_are_those_that_cuda_would_see(monkeypatch, visible, cards) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(*CARDS))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    *gpus, cpu = devices()
    assert [(gpu.name, gpu.words, gpu.free >> 30) for gpu in gpus] == [
        (f"cuda:{number}", f"card {card}", CARDS[card].free) for number, card in enumerate(cards)
    ]
    assert cpu.name == "cpu"
    assert 0 < cpu.free <= cpu.total


def test_without_a_driver_there_is_the_cpu(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert [device.name for device in devices()] == ["cpu"]
    assert gpu_of(0, "aaa") is None


@pytest.mark.parametrize(
    ("wanted", "name"), [("auto", "cuda:1"), ("cuda", "cuda:0"), ("cuda:2", "cuda:2"), ("cuda:3", None), ("cpu", "cpu")]
)
def test_auto_is_the_gpu_with_the_most_free_memory(monkeypatch, wanted, name) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(*CARDS))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    chosen = chosen_device(wanted, devices())
    assert (chosen and chosen.name) == name


def test_a_value_that_a_card_does_not_tell_costs_only_that_value(monkeypatch) -> None:
    """A part of a card (MIG) has memory of its own, but no utilisation."""
    silent = frozenset({"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage"})
    monkeypatch.setitem(sys.modules, "pynvml", driver(Card("GPU-aaa", silent=silent), Card("GPU-bbb")))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    part, whole = (gpu.reading() for gpu in visible_gpus())
    assert part == {
        "temperature": 55, "memory_gib": 3.0, "total_gib": 80.0, "power_limit_watts": 400.0, "clock_share": 0.75
    }  # fmt: skip
    assert whole == part | {"utilisation": 91, "power_watts": 312.5}


def test_a_question_that_an_older_library_does_not_know_is_left_out(monkeypatch) -> None:
    nvml = driver(Card("GPU-aaa"))
    del nvml.nvmlDeviceGetMaxClockInfo
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "clock_share" not in visible_gpus()[0].reading()


@pytest.mark.parametrize("uuid", ["bbb", "GPU-bbb"])
def test_a_gpu_is_found_by_its_uuid_whatever_the_numbering(monkeypatch, uuid) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(*CARDS))
    gpu = gpu_of(0, uuid)
    assert gpu is not None
    assert (gpu.number, gpu.name) == (0, "card 1")
