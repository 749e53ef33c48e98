"""Devices as CUDA numbers them, from a driver that is played by a module."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from deeptune.show.devices import devices


class NVMLError(Exception):
    pass


CARDS = ["GPU-aaa", "GPU-bbb", "GPU-ccc"]


def driver(count: int = 3) -> SimpleNamespace:
    def by_index(index):
        if index >= count:
            raise NVMLError
        return index

    def by_uuid(uuid):
        if uuid not in CARDS:
            raise NVMLError
        return CARDS.index(uuid)

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(free=10 + handle, total=20),
        nvmlDeviceGetName=lambda handle: f"card {handle}".encode(),
    )


@pytest.mark.parametrize(
    ("visible", "cards"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("GPU-bbb", [1]),
        ("1,-1,2", [1]),  # CUDA stops at the first that is none
        ("", []),
    ],
)
def test_gpus_are_those_that_cuda_would_see(monkeypatch, visible, cards) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    *gpus, cpu = devices()
    assert [(gpu.name, gpu.words, gpu.free) for gpu in gpus] == [
        (f"cuda:{number}", f"card {card}", 10 + card) for number, card in enumerate(cards)
    ]
    assert cpu.name == "cpu"
    assert 0 < cpu.free <= cpu.total


def test_without_a_driver_there_is_the_cpu(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert [device.name for device in devices()] == ["cpu"]
