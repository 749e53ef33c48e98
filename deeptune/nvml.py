"""The NVIDIA GPUs that this process may use, asked of the driver and not of torch.

Without a GPU, a driver, its library or the rights to ask there is none. What a GPU does not tell is None: a part of a
card (MIG) has no utilisation of its own, for example.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def use_one_numbering() -> None:
    """Number GPUs by their place on the bus, as the driver does, unless the person chose another order.

    CUDA's own order has the fastest first. This must be called before CUDA is used.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


@dataclass(frozen=True)
class NvidiaGpu:
    """A GPU that this process may use; `number` is that of `cuda:number`."""

    number: int
    handle: Any

    @property
    def name(self) -> str | None:
        name = _asked(lambda nvml: nvml.nvmlDeviceGetName(self.handle))
        return name.decode(errors="replace") if isinstance(name, bytes) else name

    @property
    def memory(self) -> tuple[int, int] | None:
        """Free and total bytes."""
        memory = _asked(lambda nvml: nvml.nvmlDeviceGetMemoryInfo(self.handle))
        return None if memory is None else (int(memory.free), int(memory.total))

    def reading(self) -> dict[str, float]:
        """Read what the GPU does now: each value that it tells.

        `utilisation` in percent, `temperature` in °C, memory in GiB, `power_watts` with the most that the card may take
        (`power_limit_watts`), `clock_share` of the fastest clock of its multiprocessors.
        """
        handle = self.handle
        memory = _asked(lambda nvml: nvml.nvmlDeviceGetMemoryInfo(handle))
        clock = _asked(lambda nvml: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        fastest = _asked(lambda nvml: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))
        power = _asked(lambda nvml: nvml.nvmlDeviceGetPowerUsage(handle))
        limit = _asked(lambda nvml: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        values: dict[str, float | None] = {
            "utilisation": _asked(lambda nvml: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
            "temperature": _asked(lambda nvml: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
            "memory_gib": None if memory is None else round(memory.used / 2**30, 3),
            "total_gib": None if memory is None else round(memory.total / 2**30, 3),
            "power_watts": None if power is None else round(power / 1000, 1),
            "power_limit_watts": None if limit is None else round(limit / 1000, 1),
            "clock_share": round(clock / fastest, 3) if clock and fastest else None,
        }
        return {name: value for name, value in values.items() if value is not None}


def visible_gpus() -> list[NvidiaGpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES leaves, in CUDA's order with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    if not _started():
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        count = _asked(lambda nvml: nvml.nvmlDeviceGetCount()) or 0
        handles = [_by_index(index) for index in range(count)]
        return [NvidiaGpu(number, handle) for number, handle in enumerate(handles) if handle is not None]
    items = [item.strip() for item in chosen.split(",")]
    if len(set(items)) < len(items):  # CUDA sees none then
        return []
    found: list[NvidiaGpu] = []
    for number, item in enumerate(items):
        handle = _by_index(int(item)) if item.isdigit() else _by_uuid(item)
        if handle is None:  # CUDA stops at the first that is none
            break
        found.append(NvidiaGpu(number, handle))
    return found


def gpu_of(number: int, uuid: str) -> NvidiaGpu | None:
    """Return the GPU with a UUID, with or without its prefix, whatever the numbering is."""
    if not _started():
        return None
    names = [uuid] if uuid.startswith(("GPU-", "MIG-")) else [f"GPU-{uuid}", f"MIG-{uuid}"]
    handles = [handle for name in names if (handle := _by_uuid(name)) is not None]
    return NvidiaGpu(number, handles[0]) if handles else None


def driver_version() -> tuple[str, str] | None:
    """Return the driver's version, and the newest CUDA that it takes, such as `("550.54", "12.4")`.

    None without a driver.
    """
    if not _started():
        return None
    version = _asked(lambda nvml: nvml.nvmlSystemGetDriverVersion())
    cuda = _asked(lambda nvml: nvml.nvmlSystemGetCudaDriverVersion_v2())
    if version is None or cuda is None:
        return None
    text = version.decode() if isinstance(version, bytes) else version
    return text, f"{cuda // 1000}.{cuda % 1000 // 10}"


def freest(free: Sequence[int]) -> int:
    """Choose the GPU that `"auto"` takes: the one with the most free memory, of equal ones the first."""
    return max(range(len(free)), key=lambda number: (free[number], -number))


def _started() -> bool:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no driver, no rights, no library
        return False
    return True


def _asked(question: Callable[[Any], T]) -> T | None:
    """Return what the driver answers; None where it has no answer, or its library does not know the question."""
    import pynvml

    with suppress(pynvml.NVMLError, AttributeError):
        return question(pynvml)
    return None


def _by_index(index: int) -> Any:
    return _asked(lambda nvml: nvml.nvmlDeviceGetHandleByIndex(index))


def _by_uuid(uuid: str) -> Any:
    """Return the GPU of a UUID, or of the beginning of one, which CUDA takes as well."""
    handle = _asked(lambda nvml: nvml.nvmlDeviceGetHandleByUUID(uuid))
    if handle is not None or not uuid.startswith("GPU-"):
        return handle
    count = _asked(lambda nvml: nvml.nvmlDeviceGetCount()) or 0
    for handle in (_by_index(index) for index in range(count)):
        if handle is not None and _uuid(handle).startswith(uuid):
            return handle
    return None


def _uuid(handle: Any) -> str:
    uuid = _asked(lambda nvml: nvml.nvmlDeviceGetUUID(handle))
    return uuid.decode() if isinstance(uuid, bytes) else uuid or ""
