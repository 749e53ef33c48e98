"""A driver of NVIDIA GPUs, played by a module in the place of `pynvml`."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace


class NVMLError(Exception):
    pass


@dataclass(frozen=True)
class Card:
    """A GPU with so much free memory (GiB); `silent` are the questions that it does not answer."""

    uuid: str
    free: float = 10.0
    silent: frozenset[str] = frozenset()


def driver(*cards: Card) -> SimpleNamespace:
    """`pynvml` of a machine with these cards; a handle is the card's number."""

    def by_index(index):
        if index >= len(cards):
            raise NVMLError
        return index

    def by_uuid(uuid):
        for number, card in enumerate(cards):
            if card.uuid == uuid:
                return number
        raise NVMLError

    def answering(name, value):
        def answer(handle, *arguments):
            if name in cards[handle].silent:
                raise NVMLError("Not Supported")
            return value(handle)

        return answer

    answers = {
        "nvmlDeviceGetMemoryInfo": lambda number: SimpleNamespace(
            free=int(cards[number].free * 2**30), used=3 << 30, total=80 << 30
        ),
        "nvmlDeviceGetName": lambda number: f"card {number}".encode(),
        "nvmlDeviceGetUUID": lambda number: cards[number].uuid,
        "nvmlDeviceGetUtilizationRates": lambda number: SimpleNamespace(gpu=90 + number),
        "nvmlDeviceGetTemperature": lambda number: 55,
        "nvmlDeviceGetPowerUsage": lambda number: 312_500,
        "nvmlDeviceGetEnforcedPowerLimit": lambda number: 400_000,
        "nvmlDeviceGetClockInfo": lambda number: 1200,
        "nvmlDeviceGetMaxClockInfo": lambda number: 1600,
    }
    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetHandleByUUID=by_uuid,
        **{name: answering(name, value) for name, value in answers.items()},
    )
