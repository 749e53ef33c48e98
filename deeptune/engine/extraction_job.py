"""One pass of rows through a frozen backbone: what decides its bits, and the forward passes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deeptune.backbones.base import Backbone
from deeptune.backbones.behaviour import identity, versions
from deeptune.data.loading.batch_order import WINDOW, batch_slices
from deeptune.data.loading.dataset import Batch, Dataset, Inputs, SampleOptions
from deeptune.data.loading.loader import Loader, LoaderOptions
from deeptune.data.loading.prefetch import prefetched
from deeptune.data.loading.samples import Samples
from deeptune.data.modalities import MODALITIES
from deeptune.data.sources.source import Source
from deeptune.engine.activations import CutActivations
from deeptune.engine.device import Compute, device_identity, rows_at_once, tokens_at_once
from deeptune.engine.folded_pass import Forward, folded, pays_to_fold
from deeptune.engine.micro_batch import MicroBatcher, each_micro_batch
from deeptune.engine.prepare import Prepared
from deeptune.spec.modalities import MODALITIES as SPEC_MODALITIES
from deeptune.spec.modalities import Input, columns_of
from deeptune.spec.tasks import TASKS


@dataclass(frozen=True)
class FrozenBackbone:
    """A frozen backbone on its device, or its blocks before the cut, and the samples of each source that passes it.

    `augmentation`, `seed` and `flip` say how training images are changed. `admit` is given the floating-point
    operations of a pass before its first row, and may raise what ends it.
    """

    backbone: Backbone
    compute: Compute
    input: Input
    samples: Mapping[Source, Samples]
    workers: int = 0
    augmentation: str = "none"
    seed: int = 0
    flip: bool = False
    activations: CutActivations | None = None
    plural: str = ""  # what its samples are called, where it is one of several
    admit: Callable[[float], None] | None = None

    @classmethod
    def of(cls, ready: Prepared, activations: CutActivations | None = None) -> FrozenBackbone:
        """Return the frozen backbone of a run."""
        train = ready.spec.train
        return cls(
            ready.backbone,
            ready.compute,
            ready.plan.input,
            ready.samples,
            int(train.workers),
            train.augmentation,
            train.seed,
            TASKS[ready.spec.task].mirrored,
            activations,
        )

    @property
    def members(self) -> list[FrozenBackbone]:
        """Each of several backbones as if it were the only one: its features are those of a run on it alone."""
        if len(self.backbone.members) == 1:
            return [self]
        columns = MODALITIES[self.backbone.info.modality].parts(self.input)
        found = []
        for member in self.backbone.members.values():
            kind = member.info.modality
            info = SPEC_MODALITIES[kind]
            found.append(
                replace(
                    self,
                    backbone=member,
                    input=columns[kind][1],
                    samples={source: one.parts[kind] for source, one in self.samples.items()},
                    augmentation=self.augmentation if info.augmented else "none",
                    plural=info.plural,
                )
            )
        return found


class ExtractionJob:
    """A pass of rows of a source (int64, ascending) through a frozen backbone.

    `blank` rows pass as an empty sample. `view` is the epoch whose augmentation changes the images, or None.
    """

    def __init__(
        self, frozen: FrozenBackbone, source: Source, rows: np.ndarray, blank: frozenset[int], view: int | None = None
    ) -> None:
        self.frozen, self.source, self.rows, self.blank, self.view = frozen, source, rows, blank, view
        self.batch_size = rows_at_once(frozen.compute.device)
        self.width = frozen.activations.width if frozen.activations else frozen.backbone.width
        self.pad_multiple = 8 if frozen.compute.device.type == "cuda" else 1
        self.folds_network = frozen.activations is None and pays_to_fold(frozen.backbone, frozen.compute, len(rows))
        self._folded: Forward | None = None

    @property
    def frozen_part(self) -> str:
        """The part of the model that rows pass, in words."""
        if self.frozen.activations is not None:
            return "frozen blocks"
        kind = f" of {self.frozen.plural}" if self.frozen.plural else ""
        return f"frozen backbone{kind}"

    @property
    def bytes(self) -> int:
        """Bytes of all features."""
        return (len(self.rows) if self.lengths is None else int(self.lengths.sum())) * self.width * 4

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """Vectors (int64) of each row if each token has one, else None. A text without tokens has one."""
        if self.frozen.activations is None or not self.frozen.activations.of_tokens:
            return None
        lengths = self._inputs.lengths(self.rows)
        assert lengths is not None
        return np.maximum(lengths, 1)

    def ingredients(self) -> dict[str, Any]:
        """Return everything that decides the bits of the features."""
        frozen, preprocessing = self.frozen, self.frozen.backbone.preprocessing
        assert preprocessing is not None
        augmentation = {
            "name": frozen.augmentation,
            "seed": frozen.seed,
            "flip": frozen.flip,
            "epoch": self.view,
        }
        cut = {} if frozen.activations is None else {"boundary": frozen.activations.name}
        return {
            "backbone": {**identity(frozen.backbone), **({"pooling": None} if cut else {})},
            **cut,
            **({"padding": False} if frozen.backbone.padding_reaches else {}),
            **({"folded": True} if self.folds_network else {}),
            "preprocessing": preprocessing.ingredients(),
            "value_range": getattr(frozen.samples[self.source], "value_range", None),
            "augmentation": None if self.view is None else augmentation,
            "device": device_identity(frozen.compute.device),
            "precision": frozen.compute.precision,
            "data": self.source.fingerprint(),
            "input": frozen.input,
            "rows": hashlib.sha256(self.rows.tobytes()).hexdigest(),
            "blank": hashlib.sha256(repr(sorted(self.blank)).encode()).hexdigest(),
            "block": [self.batch_size, tokens_at_once(frozen.compute.device), self.pad_multiple, WINDOW],
            "memory_format": frozen.backbone.memory_format,
            "versions": versions(frozen.backbone),
        }

    def description(self) -> dict[str, Any]:
        """Return the description of the cache entry that people see."""
        backbone = self.frozen.backbone
        modality = SPEC_MODALITIES[backbone.info.modality]
        size = f"{modality.size_of(backbone.preprocessing)} {modality.short_unit}"
        view = "" if self.view is None else f", {self.frozen.augmentation} view {self.view}"
        name = backbone.info.name.rstrip("/").rpartition("/")[2].removeprefix("hf:")
        activations = self.frozen.activations
        kind = backbone.pooling if activations is None else f"before {activations.name}"
        columns = ", ".join(columns_of(self.frozen.input))
        return {
            "what": f"{name}, {size}, {kind}{view}: {self.source.name} ({columns})",
            "data": self.source.describe(),
            "ingredients": self.ingredients(),
        }

    def batches(self) -> list[np.ndarray]:
        """Return the rows that pass together: texts of similar length, so that a batch holds little padding."""
        order = self._loader(self.rows, by_length=True).order(0)
        return [order[places] for places in batch_slices(len(order), self.batch_size, training=False)]

    def lengths_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return `lengths` of some of the rows."""
        return None if self.lengths is None else self.lengths[np.searchsorted(self.rows, rows)]

    def operations(self, rows: np.ndarray) -> float:
        """Count the floating-point operations of a pass of `rows`, by those of one row: a text of the mean length.

        They are counted and not timed, so that a busy machine gives the same number.
        """
        lengths = self._inputs.lengths(rows)
        typical = 0 if lengths is None else int(np.argmin(np.abs(lengths - lengths.mean())))
        batch = next(iter(self._loader(rows[typical : typical + 1]))).to(self.frozen.compute.device)
        backbone = self.frozen.backbone.eval()
        with torch.inference_mode(), self.frozen.compute.autocast(), FlopCounterMode(display=False) as counter:
            backbone(batch.inputs)
        return float(counter.get_total_flops()) * len(rows)

    def fold(self) -> bool:
        """Fold the network, where that is to be done. Returns False where it can't be: then it passes as it is."""
        if self.folds_network and self._folded is None:
            places = np.unique(np.linspace(0, len(self.rows) - 1, self.batch_size).round().astype(np.int64))
            loader = self._loader(self.rows[places])
            loader.set_epoch(self.view or 0)
            self._folded = folded(self.frozen.backbone, next(iter(loader)).inputs["images"])
            self.folds_network = self._folded is not None
            return self.folds_network
        return True

    def unfold(self) -> None:
        """Let go of the folded network, which has weights of its own."""
        self._folded = None

    def features(self, batches: list[np.ndarray], micro_batcher: MicroBatcher) -> Iterator[Tensor]:
        """Yield vectors, float32 (n, width) on the CPU, of each of some of the `batches`, in their order."""
        loader = self._loader(np.concatenate(batches))
        loader.warn = micro_batcher.tell
        loader.set_epoch(self.view or 0)
        frozen = self.frozen
        forward = frozen.activations.flat if frozen.activations else self._folded or frozen.backbone
        return forward_batches(frozen.backbone, forward, loader, frozen.compute, micro_batcher)

    @cached_property
    def _inputs(self) -> Inputs:
        frozen = self.frozen
        augmentation = "none" if self.view is None else frozen.augmentation
        options = SampleOptions(self.blank, augmentation, frozen.seed, frozen.flip, self.pad_multiple)
        return frozen.samples[self.source].inputs(options)

    def _loader(self, rows: np.ndarray, *, by_length: bool = False) -> Loader:
        options = LoaderOptions(
            self.batch_size,
            workers=self.frozen.workers,
            pin_memory=self.frozen.compute.device.type == "cuda",
            by_length=by_length,
        )
        return Loader(Dataset(self._inputs, rows), options)


def forward_batches(
    backbone: Backbone,
    forward: Callable[[dict[str, Tensor]], Tensor],
    batches: Iterable[Batch],
    compute: Compute,
    micro_batcher: MicroBatcher,
) -> Iterator[Tensor]:
    """Yield what `forward` gives for each batch, with the backbone in eval mode: float32 on the CPU.

    What a GPU works on next is made meanwhile, and what it gave is collected once it has the next batch to work on.
    """
    backbone.eval()
    late = _overlaps(compute.device)
    waiting: deque[PendingOutputs] = deque()

    def give(batch: Batch) -> Tensor:
        moved = batch.to(compute.device, non_blocking=True)
        with compute.autocast():
            return forward(moved.inputs).float()

    for batch in prefetched(batches, compute.device) if late else batches:
        with torch.inference_mode():
            waiting.append(PendingOutputs([found for _, found in each_micro_batch([batch], give, micro_batcher)]))
        if len(waiting) > late:
            yield waiting.popleft().collect()  # outside of inference mode: a copy that may take part in training
    while waiting:
        yield waiting.popleft().collect()


def _overlaps(device: torch.device) -> bool:
    """Check whether a device works by itself: cores of a CPU that make the next batch are not there for this one."""
    return device.type == "cuda"


class PendingOutputs:
    """What a device gave for the parts of a batch, on its way to the CPU."""

    def __init__(self, parts: list[Tensor]) -> None:
        cuda = parts[0].device.type == "cuda"
        # Copied without waiting, PyTorch's copy is in pinned memory.
        self.parts = [part.to("cpu", non_blocking=True) for part in parts] if cuda else parts
        self.arrived = torch.cuda.Event() if cuda else None
        if self.arrived is not None:
            self.arrived.record()

    def collect(self) -> Tensor:
        """Wait for the parts, and join them in a tensor of their own."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return torch.cat([part.cpu() for part in self.parts])
