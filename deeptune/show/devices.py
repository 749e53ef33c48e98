"""What a run could compute on here, asked of the driver and not of torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Device:
    """A device as `train.device` names it, in words, with free and total bytes of its memory."""

    name: str
    words: str
    free: int
    total: int


def devices() -> list[Device]:
    """The GPUs that a run would see, in CUDA's numbers, then the CPU.

    The driver's order is that of the bus, which is CUDA's too for cards of one model or with
    CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cpu = Device("cpu", f"{cores} core{'s' if cores != 1 else ''}", memory.available, memory.total)
    return [*_gpus(), cpu]


def _gpus() -> list[Device]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no driver, no library: no GPU
        return []
    found: list[Device] = []
    for number, handle in enumerate(_visible(pynvml)):
        try:
            memory, words = pynvml.nvmlDeviceGetMemoryInfo(handle), pynvml.nvmlDeviceGetName(handle)
        except pynvml.NVMLError:
            continue
        words = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        found.append(Device(f"cuda:{number}", words, int(memory.free), int(memory.total)))
    return found


def _visible(pynvml) -> list:  # type: ignore[no-untyped-def, type-arg]
    """Handles of the devices that CUDA_VISIBLE_DEVICES leaves, in its order; it ends at the first that is none."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        if chosen is None:
            return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    handles = []
    for item in chosen.split(","):
        item = item.strip()
        try:
            by_index = item.isdigit()
            handles.append(
                pynvml.nvmlDeviceGetHandleByIndex(int(item)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(item)
            )
        except pynvml.NVMLError:
            break
    return handles
