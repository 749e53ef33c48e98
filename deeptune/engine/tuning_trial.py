"""One trial of a way to train: what it took, and the conditions that it is measured under."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn

from deeptune.backbones.base import Backbone
from deeptune.data.loading.loader import Batch
from deeptune.engine.train_state import rng_state_kept
from deeptune.formatting import counted
from deeptune.memory import memory

HEADROOM = 0.1  # share of the free memory that is left alone


@dataclass(frozen=True)
class Trial:
    """One way to do a step of `rows × pieces`, and what it took."""

    rows: int
    pieces: int
    precision: str
    compile: bool
    tokens: int = 0  # that pass at once, at most; 0 for no limit
    memory_format: str = "contiguous"
    fits: bool = False
    seconds: float = math.inf  # of a step, median
    extra: float = 0.0  # seconds that the first step took longer, compiling
    peak: int = 0  # bytes, of the GPU or of the process
    loss: float = math.nan  # after the steps, of the same rows, in fp32 without dropout
    samples: float = 0.0  # a second
    problem: str = ""

    @property
    def name(self) -> str:
        parts = [self.precision]
        parts += ["channels last"] if self.memory_format == "channels_last" else []
        parts += ["compiled"] if self.compile else []
        parts += [f"{self.rows} × {self.pieces}"]
        parts += [f"{self.tokens:,} tokens at once"] if self.tokens else []
        return ", ".join(parts)

    @property
    def at_once(self) -> str:
        return f"{self.tokens:,} tokens" if self.tokens else counted(self.rows, "row")

    def record(self) -> dict[str, Any]:
        """Return the trial as `tuning` in run.json lists it."""
        return {
            "rows": self.rows,
            "accumulation": self.pieces,
            "precision": self.precision,
            "token_budget": self.tokens,
            "memory_format": self.memory_format,
            "compile": self.compile,
            "fits": self.fits,
            "samples_per_second": round(self.samples, 2),
            "compile_seconds": round(self.extra, 2) if self.compile else 0.0,
            "peak_gib": round(self.peak / 2**30, 3),
            "loss": self.loss if math.isfinite(self.loss) else None,
            "problem": self.problem or None,
        }

    def __str__(self) -> str:
        if self.problem:
            return f"{self.name}: {self.problem}"
        rate = f"{self.samples:.3g} samples/s" if self.samples else "not timed"
        return f"{self.name}: {rate}, peak {self.peak / 2**30:.2f} GiB" + ("" if self.fits else ", too much")


class RepeatedPieces:
    """Batches for `steps` steps, the same `pieces` in each.

    `marks` are the times between steps, in seconds, each taken when the device has done its work.
    """

    def __init__(self, pieces: list[Batch], steps: int, device: torch.device) -> None:
        self.pieces, self.steps, self.device = pieces, steps, device
        self.marks: list[float] = []

    def __len__(self) -> int:
        return len(self.pieces) * self.steps

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None: ...

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.steps):
            self._mark()
            yield from self.pieces
        self._mark()

    def _mark(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.marks.append(time.perf_counter())


class PeakMemory:
    """The most memory in use within the block: what PyTorch has reserved of a GPU, or what the process holds."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes, self._over = device, 0, threading.Event()

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            self.room = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device)
            return self
        self._process = psutil.Process()
        self.room = memory().free + self._process.memory_info().rss
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.device.type != "cuda":
            self._over.set()
            self._watcher.join()

    def fits(self) -> bool:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_reserved(self.device)
        return self.bytes <= (1 - HEADROOM) * self.room

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, self._process.memory_info().rss)
            if self._over.wait(0.01):
                return


@contextmanager
def memory_format(backbone: Backbone, name: str) -> Iterator[None]:
    """Arrange the tensors of a backbone in a memory format within the block."""
    before = backbone.memory_format
    backbone.arrange(name)
    try:
        yield
    finally:
        backbone.arrange(before)


@contextmanager
def state_kept(model: nn.Module) -> Iterator[None]:
    """Put the tensors of a model, and every random number generator, back after the block to what they were."""
    tensors = [*(p for p in model.parameters() if p.requires_grad), *model.buffers()]
    before = [tensor.detach().to("cpu", copy=True) for tensor in tensors]  # not on the GPU, whose memory is measured
    training = model.training
    with rng_state_kept():
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    tensor.copy_(value)
            model.zero_grad(set_to_none=True)
            model.train(training)
