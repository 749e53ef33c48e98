"""The devices that a run could compute on, asked of the driver and not of torch."""

from __future__ import annotations

from dataclasses import dataclass

from deeptune.environment import cores
from deeptune.memory import memory
from deeptune.nvml import freest, visible_gpus


@dataclass(frozen=True)
class Device:
    """A device as `train.device` names it, in words, with free and total bytes of its memory."""

    name: str
    words: str
    free: int
    total: int


def devices() -> list[Device]:
    """Return the GPUs that a run would see, in CUDA's numbers, then the CPU."""
    here = memory()
    count = cores()
    cpu = Device("cpu", f"{count} core{'s' if count != 1 else ''}", here.free, here.total)
    return [*_gpus(), cpu]


def chosen_device(wanted: str, found: list[Device]) -> Device | None:
    """Return the one of `devices()` that a run with this `train.device` takes; None where it is not there."""
    if wanted != "auto":
        return next((device for device in found if device.name in (wanted, f"{wanted}:0")), None)
    gpus = [device for device in found if device.name != "cpu"]
    if gpus:
        return gpus[freest([gpu.free for gpu in gpus])]
    return found[0] if found else None


def _gpus() -> list[Device]:
    found = []
    for gpu in visible_gpus():
        if (memory := gpu.memory) is not None:
            found.append(Device(f"cuda:{gpu.number}", gpu.name or "a GPU", *memory))
    return found
