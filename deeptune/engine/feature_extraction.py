"""What a frozen backbone, or its frozen blocks, make of each row: it passes once, and training reads what is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from deeptune.backbones.base import Backbone, ImagePreprocessing, TextPreprocessing
from deeptune.backbones.cut import CannotCut
from deeptune.backbones.probes import identity, versions
from deeptune.data.cache.entry import Cache, CacheRefused, key_of, size_text
from deeptune.data.cache.records import DiskRecords, EntryRequest, MemoryRecords, Records, open_records
from deeptune.data.features import Features
from deeptune.data.images import LEAST
from deeptune.data.loader import Batch, Loader, batch_slices, epoch_order, make_loader
from deeptune.data.modalities.base import Progress
from deeptune.data.samples import Samples
from deeptune.data.sampling import WINDOW
from deeptune.data.source import Source
from deeptune.data.text import tokenizer_identity
from deeptune.engine.activations import CutActivations
from deeptune.engine.device import Compute, tokens_at_once
from deeptune.engine.micro_batch import MicroBatcher, each_piece
from deeptune.engine.prepare import SPLITS, Prepared
from deeptune.engine.run_logger import RunLogger
from deeptune.spec.modalities import Input, columns_of
from deeptune.spec.model import Split
from deeptune.spec.tasks import TASKS

MEMORY_SHARE = 0.25  # of the memory that is free now: what a table may take that the disk does not
MOST_UNUSED = 0.25  # of a source's rows: so many may pass for nothing, so that runs that use others share a table


def rows_at_once(device: torch.device) -> int:
    """Rows that pass together: always the same, whatever train.batch_size is, as the last bits depend on it."""
    # On a CPU the activations of more rows leave its caches: 64 are a tenth slower for resnet18 and MiniLM, 256 a third
    return 32 if device.type == "cpu" else 256


class FeatureLoader:
    """Yields batches of stored features, or of images' boundaries, in the order that a `Loader` of the same rows would.

    `targets`, if there are any, belong to `rows` (int64, ascending). With several tables, epoch e reads the e-th, from
    the first again after the last.
    """

    def __init__(
        self,
        tables: Sequence[Features],
        targets: np.ndarray | None,
        rows: np.ndarray,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        boundary: CutActivations | None = None,
    ) -> None:
        self.boundary = boundary
        self.tables, self.rows = tables, torch.from_numpy(np.asarray(rows, np.int64))
        self.targets: Tensor | None = None
        if targets is not None:
            whole = np.issubdtype(targets.dtype, np.integer)
            self.targets = torch.from_numpy(targets.astype(np.int64 if whole else np.float32))
        self.shuffle, self.seed = shuffle, seed
        self.epoch = self.skip = 0
        self._places = [table.places(rows) for table in tables]
        self._slices = batch_slices(len(rows), batch_size, training=shuffle)

    def __len__(self) -> int:
        return len(self._slices)

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None:
        self.epoch, self.skip = epoch, skip

    def __iter__(self) -> Iterator[Batch]:
        count, view = len(self.rows), self.epoch % len(self.tables)
        table, places = self.tables[view], self._places[view]
        order = epoch_order(count, self.seed, self.epoch) if self.shuffle else torch.arange(count)
        for picked in (order[part] for part in self._slices[self.skip :]):
            found = table.at(places[picked.numpy()])
            if self.boundary is None:
                inputs = {"features": torch.from_numpy(found)}
            else:
                inputs = {"boundary": self.boundary.maps(found)}
            targets = None if self.targets is None else self.targets[picked]
            yield Batch(inputs, targets, self.rows[picked])


@dataclass(frozen=True)
class Stored:
    """The tables of a run. `splits` has none for a split whose rows pass the backbone each time that they are needed;
    `views` are those that training reads, one for each augmentation of the training rows, or none. They hold pooled
    features, or what stands at `boundary`."""

    splits: Mapping[Split, Features]
    views: list[Features]
    boundary: CutActivations | None = None


@dataclass(frozen=True)
class Frozen:
    """A frozen backbone on its device, or its part before `boundary`, and how the samples of a column come to it.

    `samples` are those of each source that passes; `seed` and `flip` are those of `augmentation`.
    """

    backbone: Backbone
    compute: Compute
    input: Input
    samples: Mapping[Source, Samples]
    workers: int = 0
    augmentation: str = "none"
    seed: int = 0
    flip: bool = False
    boundary: CutActivations | None = None

    @classmethod
    def of(cls, ready: Prepared, boundary: CutActivations | None = None) -> Frozen:
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
            boundary,
        )


class _Pass:
    """One passage of rows of a source through a frozen backbone: what decides its bits, and the doing of it.

    `blank` rows pass as an empty sample. `view` is the epoch whose augmentation the images get, or None for none.
    """

    def __init__(
        self, frozen: Frozen, source: Source, rows: np.ndarray, blank: frozenset[int], view: int | None = None
    ) -> None:
        self.frozen, self.source, self.rows, self.blank, self.view = frozen, source, rows, blank, view
        self.block = rows_at_once(frozen.compute.device)
        self.width = frozen.boundary.width if frozen.boundary else frozen.backbone.width
        self.pad_multiple = 8 if frozen.compute.device.type == "cuda" else 1

    @property
    def bytes(self) -> int:
        return (len(self.rows) if self.lengths is None else int(self.lengths.sum())) * self.width * 4

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """Vectors (int64) of each row, where they are of tokens; a text without any has one."""
        if self.frozen.boundary is None or not self.frozen.boundary.of_tokens:
            return None
        lengths = self._loader(self.rows).lengths
        assert lengths is not None
        return np.maximum(lengths, 1)

    def ingredients(self) -> dict[str, Any]:
        """All that decides the bits of the table."""
        frozen = self.frozen
        augmentation = {
            "name": frozen.augmentation,
            "seed": frozen.seed,
            "flip": frozen.flip,
            "epoch": self.view,
        }
        boundary = {} if frozen.boundary is None else {"boundary": frozen.boundary.cut.name}
        return {
            "backbone": {**identity(frozen.backbone), **({"pooling": None} if boundary else {})},
            **boundary,
            **({"padding": False} if frozen.backbone.padding_reaches else {}),
            "preprocessing": _preprocessing(frozen.backbone.preprocessing),
            "value_range": getattr(frozen.samples[self.source], "value_range", None),
            "augmentation": None if self.view is None else augmentation,
            "device": frozen.compute.device.type,
            "precision": frozen.compute.precision,
            "data": self.source.fingerprint(),
            "input": frozen.input,
            "rows": hashlib.sha256(self.rows.tobytes()).hexdigest(),
            "blank": hashlib.sha256(repr(sorted(self.blank)).encode()).hexdigest(),
            "block": [self.block, tokens_at_once(frozen.compute.device), self.pad_multiple, WINDOW],
            "memory_format": frozen.backbone.memory_format,
            "versions": versions(frozen.backbone),
        }

    def what(self) -> dict[str, Any]:
        """For a person who looks at the cache."""
        backbone, preprocessing = self.frozen.backbone, self.frozen.backbone.preprocessing
        if isinstance(preprocessing, ImagePreprocessing):
            size = f"{preprocessing.image_size} px"
        else:
            assert preprocessing is not None
            size = f"{preprocessing.max_length} tokens"
        view = "" if self.view is None else f", {self.frozen.augmentation} view {self.view}"
        name = backbone.info.name.rstrip("/").rpartition("/")[2].removeprefix("hf:")
        boundary = self.frozen.boundary
        kind = backbone.pooling if boundary is None else f"before {boundary.cut.name}"
        columns = ", ".join(columns_of(self.frozen.input))
        return {
            "what": f"{name}, {size}, {kind}{view}: {self.source.name} ({columns})",
            "data": self.source.describe(),
            "ingredients": self.ingredients(),
        }

    def batches(self) -> list[np.ndarray]:
        """The rows that pass together: texts of like length, so that a batch holds little padding."""
        order = self._loader(self.rows, by_length=True).order(0)
        return [order[places] for places in batch_slices(len(order), self.block, training=False)]

    def lengths_of(self, rows: np.ndarray) -> np.ndarray | None:
        return None if self.lengths is None else self.lengths[np.searchsorted(self.rows, rows)]

    def features(self, batches: list[np.ndarray], limit: MicroBatcher) -> Iterator[Tensor]:
        """Vectors, float32 (n, width) on the CPU, of each of some of the `batches`, in their order."""
        loader = self._loader(np.concatenate(batches))
        loader.warn = limit.tell
        loader.set_epoch(self.view or 0)
        forward = self.frozen.boundary.flat if self.frozen.boundary else self.frozen.backbone
        return passed(self.frozen.backbone, forward, loader, self.frozen.compute, limit)

    def _loader(self, rows: np.ndarray, *, by_length: bool = False) -> Loader:
        frozen = self.frozen
        return make_loader(
            frozen.samples[self.source],
            rows,
            batch_size=self.block,
            seed=frozen.seed,
            augmentation="none" if self.view is None else frozen.augmentation,
            flip=frozen.flip,
            workers=frozen.workers,
            blank=self.blank,
            pin_memory=frozen.compute.device.type == "cuda",
            by_length=by_length,
            pad_multiple=self.pad_multiple,
        )


def passed(
    backbone: Backbone,
    forward: Callable[[dict[str, Tensor]], Tensor],
    batches: Iterable[Batch],
    compute: Compute,
    limit: MicroBatcher,
) -> Iterator[Tensor]:
    """What `forward` gives of each batch with the backbone in eval mode, float32 on the CPU."""
    backbone.eval()

    def give(batch: Batch) -> Tensor:
        moved = batch.to(compute.device, non_blocking=True)
        with compute.autocast():
            return forward(moved.inputs).float().cpu()

    for batch in batches:
        with torch.inference_mode():
            parts = [found for _, found in each_piece([batch], give, limit)]
        yield torch.cat(parts)  # outside of inference mode: a copy that may take part in training


def store_features(ready: Prepared, cache: Cache, logger: RunLogger, limit: MicroBatcher) -> Stored:
    """Pass each row of a run once through what is frozen, or read what an earlier run stored; says which.

    Where the cache can't be used, tables are kept in memory while they fit, and what does not fit is passed online.
    """
    spec, plan = ready.spec, ready.plan
    augmented = spec.train.augmentation != "none"
    if spec.train.views and (spec.tuning.method != "partial" or not augmented):
        logger.warn("train.views has no effect: it is for tuning.method = 'partial' with a train.augmentation")
    cut, boundary = ready.model.cut, None
    if cut is not None:
        try:
            boundary = CutActivations.of(cut, ready.compute)
        except CannotCut as cannot:
            logger.warn(f"the frozen blocks pass each epoch, as their outputs can't be stored, because {cannot}")
    if not spec.tuning.frozen and boundary is None:
        return Stored({}, [])
    needed: list[Split] = [split for split in SPLITS if split != "train" or not augmented or split in spec.embed.splits]
    passes: dict[int, _Pass] = {}  # by the source that it is of
    for split in needed:
        source = plan.splits[split].source
        if id(source) not in passes:
            passes[id(source)] = _pass_of(ready, source, needed, boundary)
    data = plan.splits["train"]
    views = [
        _Pass(Frozen.of(ready, boundary), data.source, data.rows, plan.blank_rows("train"), view)
        for view in range(spec.train.views if augmented else 0)
    ]
    if any(len(one.rows) for one in (*passes.values(), *views)):
        logger.phase("features")
    filling = _Filling(cache, logger.progress, limit, sum(len(one.rows) for one in (*passes.values(), *views)))
    tables = {source: filling.table(one) for source, one in passes.items()}
    kept = [filling.table(one) for one in views]
    filling.tell(logger, boundary)
    stored = {split: table for split in needed if (table := tables[id(plan.splits[split].source)]) is not None}
    if not augmented:
        return Stored(stored, [stored["train"]] if "train" in stored else [], boundary)
    if spec.train.views and None not in kept:
        logger.message(f"epochs take turns with {spec.train.views} augmented views of the training rows (train.views)")
        return Stored(stored, [table for table in kept if table is not None], boundary)
    if not spec.train.views:
        logger.message(
            f"each epoch passes the training rows through the frozen {_frozen_part(boundary)}, as train.augmentation "
            "draws new images: train.views = 4 would keep 4 of each"
        )
    return Stored(stored, [], boundary)


def _frozen_part(boundary: CutActivations | None) -> str:
    return "backbone" if boundary is None else "blocks"


def stored_for_later(
    frozen: Frozen,
    source: Source,
    blank: frozenset[int],
    cache: Cache,
    progress: Progress,
    limit: MicroBatcher,
) -> Features | None:
    """Features of all rows of a file, for a command that reads them once, and whoever comes after it: those of the
    cache, or of one pass that is stored there. `blank` are the rows that can't be used.

    None where the cache does not take them; `cache.tell` gets the reason.
    """
    one = _Pass(frozen, source, np.arange(source.num_rows), blank)
    filling = _Filling(cache, progress, limit, len(one.rows), again=False)
    table = filling.table(one)
    if table is None:
        cache.tell(f"features are not stored for next time, because {filling.reasons[0]}")
    elif len(one.rows) and not filling.passed:
        cache.tell(f"the features of all {filling.found:,} rows were in the cache: no row passes the frozen backbone")
    return table


def _pass_of(ready: Prepared, source: Source, needed: list[Split], boundary: CutActivations | None = None) -> _Pass:
    """All rows of a source, with an empty sample for those that the run leaves out; or, where these are many, only
    the rows that it uses."""
    splits = [split for split in needed if ready.plan.splits[split].source is source]
    used = np.unique(np.concatenate([ready.plan.splits[split].rows for split in splits]))
    blank = frozenset[int]().union(*(ready.plan.blank_rows(split) for split in splits))
    unused = np.setdiff1d(np.arange(source.num_rows), used)
    frozen = Frozen.of(ready, boundary)
    if len(unused) > MOST_UNUSED * source.num_rows:
        return _Pass(frozen, source, used, blank)
    return _Pass(frozen, source, np.arange(source.num_rows), blank.union(unused.tolist()))


class _Filling:
    """Makes tables one after the other, and keeps account of where their rows came from.

    `again` says whether they are read more than once: else memory is no place for what the disk does not take.
    """

    def __init__(
        self, cache: Cache, progress: Progress, limit: MicroBatcher, total: int, *, again: bool = True
    ) -> None:
        self.cache, self.progress, self.limit, self.total, self.again = cache, progress, limit, total, again
        self.done = self.passed = self.found = 0
        self.reasons: list[str] = []
        self.places: set[str] = set()

    def table(self, one: _Pass) -> Features | None:
        """The features of a pass; None when neither disk nor memory has room for them."""
        if len(one.rows) == 0:
            return Features(MemoryRecords(0, 0), one.rows, one.width)
        records: DiskRecords | None = None
        try:
            what = {**one.what(), "width": one.width}
            request = EntryRequest("features", key_of(one.ingredients()), len(one.rows), one.bytes, what, verify=True)
            records = open_records(self.cache, request)
            features = self._fill(records, one)
            self.places.add("disk")
            return features
        except CacheRefused as refused:
            self.reasons.append(str(refused))
        memory = self._in_memory(one, records) if self.again else None
        if records is not None:
            self.cache.discard(records)
        return memory

    def _in_memory(self, one: _Pass, begun: Records | None) -> Features | None:
        if one.bytes > MEMORY_SHARE * psutil.virtual_memory().available:
            self.reasons.append(f"{size_text(one.bytes)} of features do not fit in the memory that is free")
            self.places.add("online")
            return None
        records = MemoryRecords(len(one.rows), one.bytes)
        if begun is not None:
            records.adopt(begun)
        features = self._fill(records, one)
        self.places.add("memory")
        return features

    def _fill(self, records: Records, one: _Pass) -> Features:
        """Compute what is missing. What was computed stays if something interrupts it."""
        features = Features(records, one.rows, one.width)
        batches = [] if records.done.all() else [rows for rows in one.batches() if not features.done(rows).all()]
        found = len(one.rows) - sum(map(len, batches))
        self.found += found
        self.done += found
        try:
            for rows, values in zip(batches, one.features(batches, self.limit) if batches else (), strict=True):
                features.put(rows, values.numpy(), one.lengths_of(rows))
                self.done += len(rows)
                self.passed += len(rows)
                self.progress(self.done, self.total)
            records.settle()
        except CacheRefused:
            raise
        except BaseException:  # a request to stop, most often: the resumed run needs what is there
            with suppress(CacheRefused):
                records.flush()
            raise
        return features

    def tell(self, logger: RunLogger, boundary: CutActivations | None) -> None:
        """Say which way was taken, and why it was not the usual one."""
        frozen = _frozen_part(boundary)
        what = "features are" if boundary is None else f"what the frozen blocks give (before {boundary.cut.name}) is"
        goes = "passes" if boundary is None else "pass"
        because = "; ".join(dict.fromkeys(self.reasons))
        if "online" in self.places:
            logger.warn(f"{what} not stored, and the frozen {frozen} {goes} each epoch, because {because}")
        elif "memory" in self.places:
            logger.message(f"{what} kept in memory, and not for later runs, because {because}")
        if self.passed:
            before = f" ({self.found:,} more were in the cache)" if self.found else ""
            trains = "the head trains on their features" if boundary is None else "the others train on what these gave"
            logger.message(f"{self.passed:,} rows passed the frozen {frozen} once{before}; {trains}")
        elif self.found:
            logger.message(
                f"the features of all {self.found:,} rows were in the cache: no row passes the frozen {frozen}"
            )


# What decides the bits.


def _preprocessing(preprocessing: ImagePreprocessing | TextPreprocessing | None) -> dict[str, Any]:
    if isinstance(preprocessing, ImagePreprocessing):
        return {**asdict(preprocessing), "least": LEAST}
    assert preprocessing is not None
    return {
        **tokenizer_identity(preprocessing.tokenizer),
        "max_length": preprocessing.max_length,
        "pad": preprocessing.pad_id,
        "token_types": preprocessing.token_types,
    }
