"""Features of a frozen backbone, or of its frozen blocks: computed once, stored, and read by training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeptune.backbones.base import CannotCut
from deeptune.data.cache.disk_records import DiskRecords, EntryRequest, open_records
from deeptune.data.cache.entry import Cache, CacheRefused, key_of
from deeptune.data.cache.records import MemoryRecords, Records
from deeptune.data.loading.dataset import FeatureInputs, Inputs
from deeptune.data.loading.features import Features, JoinedFeatures
from deeptune.data.sources.source import Source
from deeptune.engine.activations import ActivationInputs, CutActivations
from deeptune.engine.extraction_job import ExtractionJob, FrozenBackbone
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.prepare import Prepared
from deeptune.engine.run_logger import Log
from deeptune.formatting import size_text
from deeptune.memory import memory
from deeptune.progress import Progress
from deeptune.spec.run_spec import SPLITS, Split

MEMORY_SHARE = 0.25  # largest share of free memory for features that the disk can't hold
MAX_UNUSED = 0.25  # share of a source's rows that may pass unused, so that runs that use others share an entry


@dataclass(frozen=True)
class StoredFeatures:
    """The stored features of a run: pooled features, or what stands at the cut (`activations`).

    `splits` lacks a split whose rows pass the backbone each time that they are needed. `views` are what training reads,
    one for each augmentation of the training rows; none if they pass each epoch.
    """

    splits: Mapping[Split, Features | JoinedFeatures]
    views: list[Features | JoinedFeatures]
    activations: CutActivations | None = None

    def inputs(self, split: Split, samples: Inputs, *, training: bool) -> Inputs | None:
        """Return stored features that replace `samples` as the inputs of a split, or None if there are none."""
        views = self.views if training else [self.splits[split]] if split in self.splits else []
        if not views:
            return None
        if self.activations is None:
            return FeatureInputs(views)
        return ActivationInputs(self.activations, [view for view in views if isinstance(view, Features)], samples)


def store_features(ready: Prepared, cache: Cache, logger: Log, micro_batcher: MicroBatcher) -> StoredFeatures:
    """Pass each row of a run once through what is frozen, or read what an earlier run stored, and log which.

    If the cache can't be used, features are kept in memory while they fit; what does not fit passes each epoch.
    """
    spec, plan = ready.spec, ready.plan
    augmented = spec.train.augmentation != "none"
    if spec.train.views and (spec.tuning.method != "partial" or not augmented):
        logger.warn("train.views has no effect: it is for tuning.method = 'partial' with a train.augmentation")
    activations = _cut_activations(ready, logger)
    if not spec.tuning.frozen and activations is None:
        return StoredFeatures({}, [])
    needed: list[Split] = [split for split in SPLITS if split != "train" or not augmented or split in spec.embed.splits]
    frozen = FrozenBackbone.of(ready, activations)
    jobs: dict[int, list[ExtractionJob]] = {}  # one for each backbone, by the source that they are of
    for job in source_jobs(ready, needed, frozen):
        jobs.setdefault(id(job.source), []).append(job)
    data, blank = plan.splits["train"], frozenset(plan.blank_rows("train"))
    views = [
        _for_members(frozen, data.source, data.rows, blank, view)
        for view in range(spec.train.views if augmented else 0)
    ]
    everything = [job for group in (*jobs.values(), *views) for job in group]
    if any(len(job.rows) for job in everything):
        logger.phase("features")
    extraction = FeatureExtraction(cache, logger.progress, micro_batcher, sum(len(job.rows) for job in everything))
    of_source = {source: extraction.run_all(group) for source, group in jobs.items()}
    of_view = [extraction.run_all(group) for group in views]
    extraction.log(logger, activations)
    found = {split: features for split in needed if (features := of_source[id(plan.splits[split].source)]) is not None}
    if not augmented:
        return StoredFeatures(found, [found["train"]] if "train" in found else [], activations)
    if spec.train.views and None not in of_view:
        logger.message(f"epochs take turns with {spec.train.views} augmented views of the training rows (train.views)")
        return StoredFeatures(found, [features for features in of_view if features is not None], activations)
    if not spec.train.views:
        logger.message(
            f"each epoch passes the training rows through the frozen {_frozen_part(activations)}, as "
            "train.augmentation draws new images: train.views = 4 would keep 4 of each"
        )
    return StoredFeatures(found, [], activations)


def source_jobs(ready: Prepared, needed: Sequence[Split], frozen: FrozenBackbone) -> list[ExtractionJob]:
    """Return the extraction of each source that the splits in `needed` are of, by each backbone."""
    sources = {id(source): source for split in needed for source in [ready.plan.splits[split].source]}
    return [job for source in sources.values() for job in _jobs_of(ready, source, needed, frozen)]


def features_of_file(
    frozen: FrozenBackbone,
    source: Source,
    blank: frozenset[int],
    cache: Cache,
    progress: Progress,
    micro_batcher: MicroBatcher,
) -> Features | JoinedFeatures | None:
    """Return features of all rows of a file, for a command that reads them once, and for the commands after it.

    They come from the cache, or from one pass that is stored there. `blank` are the rows that can't be used. Returns
    None if the cache does not take them; `cache.tell` gets the reason. With a NoCache they are kept in memory.
    """
    jobs = _for_members(frozen, source, np.arange(source.num_rows), blank)
    total = sum(len(job.rows) for job in jobs)
    extraction = FeatureExtraction(cache, progress, micro_batcher, total, read_again=not cache.keeps)
    features = extraction.run_all(jobs)
    if features is None:
        cache.tell(f"features are not stored for next time, because {extraction.reasons[0]}")
    else:
        for what, counts in extraction.counts.items():
            if counts.found and not counts.passed:
                cache.tell(f"the features of all {counts.found:,} rows were in the cache: no row passes the {what}")
    return features


@dataclass
class Counts:
    """Counts of rows that passed what is frozen, and of rows whose features the cache had."""

    passed: int = 0
    found: int = 0


class FeatureExtraction:
    """Does one extraction job after the other, and counts where the rows came from.

    `read_again` says whether features are read more than once; if not, they are not kept in memory. `enough` is asked
    after each batch, and ends a pass early where it says so: the batches that have passed are spread over all rows.
    """

    enough: Callable[[], bool] | None = None

    def __init__(
        self, cache: Cache, progress: Progress, micro_batcher: MicroBatcher, total: int, *, read_again: bool = True
    ) -> None:
        self.cache, self.progress, self.micro_batcher = cache, progress, micro_batcher
        self.total, self.read_again = total, read_again
        self.done = 0
        self.counts: dict[str, Counts] = {}  # by what is frozen
        self._known: dict[tuple[Any, ...], Features | None] = {}  # texts are the same in each view
        self.reasons: list[str] = []  # why the disk or memory did not take features
        self.places: set[str] = set()  # disk, memory, online

    @property
    def passed(self) -> int:
        """How many rows have passed, by all jobs."""
        return sum(counts.passed for counts in self.counts.values())

    def run_all(self, jobs: Sequence[ExtractionJob]) -> Features | JoinedFeatures | None:
        """Return the features of the same rows by each of the jobs.

        None if neither disk nor memory has room for them.
        """
        found = [self.run(job) for job in jobs]
        features = [one for one in found if one is not None]
        if len(features) < len(found):
            return None
        return features[0] if len(features) == 1 else JoinedFeatures(features)

    def run(self, job: ExtractionJob) -> Features | None:
        """Return the features of a job's rows; None if neither disk nor memory has room for them."""
        key = (id(job.frozen.backbone), job.source, job.view, job.rows.tobytes(), job.blank)
        if key in self._known:
            self.done += len(job.rows)
        else:
            self._known[key] = self._run(job)
            job.unfold()
        return self._known[key]

    def _run(self, job: ExtractionJob) -> Features | None:
        if len(job.rows) == 0:
            return Features(MemoryRecords(0, 0), job.rows, job.width)
        records: DiskRecords | None = None
        try:
            description = {**job.description(), "width": job.width}
            key = key_of(job.ingredients())
            request = EntryRequest("features", key, len(job.rows), job.bytes, description, verify=True)
            records = open_records(self.cache, request)
            if not records.done.all() and not job.fold():  # what the plain network gives has another name
                self.cache.discard(records)
                return self._run(job)
            self._admit(job, records)
            features = self._fill(records, job)
            self.places.add("disk")
            return features
        except CacheRefused as refused:
            self.reasons.append(str(refused))
            if records is None:
                self._admit(job, None)
        in_memory = self._in_memory(job, records) if self.read_again else None
        if records is not None:
            self.cache.discard(records)
        return in_memory

    def _admit(self, job: ExtractionJob, records: Records | None) -> None:
        """Ask whether the rows whose features are not there may pass."""
        missing = job.rows if records is None else job.rows[~records.done]
        if job.frozen.admit is not None and len(missing):
            job.frozen.admit(job.operations(missing))

    def _in_memory(self, job: ExtractionJob, begun: Records | None) -> Features | None:
        if job.bytes > MEMORY_SHARE * memory().free:
            self.reasons.append(f"{size_text(job.bytes)} of features do not fit in the free memory")
            self.places.add("online")
            return None
        records = MemoryRecords(len(job.rows), job.bytes)
        if begun is not None:
            records.adopt(begun)
        job.fold()
        features = self._fill(records, job)
        self.places.add("memory")
        return features

    def _fill(self, records: Records, job: ExtractionJob) -> Features:
        """Compute what is missing. What was computed stays if something interrupts it."""
        features = Features(records, job.rows, job.width)
        batches = [] if records.done.all() else job.batches()
        if self.enough is not None:
            batches = [batches[place] for place in spread_order(len(batches))]
        batches = [rows for rows in batches if not features.done(rows).all()]
        found = len(job.rows) - sum(map(len, batches))
        counts = self.counts.setdefault(job.frozen_part, Counts())
        counts.found += found
        self.done += found
        try:
            if batches and not (self.enough is not None and self.enough()):
                for rows, values in zip(batches, job.features(batches, self.micro_batcher), strict=True):
                    features.put(rows, values.numpy(), job.lengths_of(rows))
                    self.done += len(rows)
                    counts.passed += len(rows)
                    self.progress(self.done, self.total)
                    if self.enough is not None and self.enough():
                        break
            records.settle()
        except CacheRefused:
            raise
        except BaseException:  # a request to stop, most often: the resumed run needs what is there
            with suppress(CacheRefused):
                records.flush()
            raise
        return features

    def log(self, logger: Log, activations: CutActivations | None) -> None:
        """Log where the features are, and why if that is not the usual place."""
        frozen, pooled = _frozen_part(activations), activations is None
        what = "features are" if activations is None else f"what the frozen blocks give (before {activations.name}) is"
        because = "; ".join(dict.fromkeys(self.reasons))
        if "online" in self.places:
            goes = "passes" if pooled else "pass"
            logger.warn(f"{what} not stored, and the frozen {frozen} {goes} each epoch, because {because}")
        elif "memory" in self.places:
            logger.message(f"{what} kept in memory, and not for later runs, because {because}")
        for what, counts in self.counts.items():
            if counts.passed:
                before = f" ({counts.found:,} more were in the cache)" if counts.found else ""
                trains = "the head trains on their features" if pooled else "the others train on what these gave"
                logger.message(f"{counts.passed:,} rows passed the {what} once{before}; {trains}")
            elif counts.found:
                logger.message(f"the features of all {counts.found:,} rows were in the cache: no row passes the {what}")


def spread_order(count: int) -> np.ndarray:
    """Return an order (int64 (count,)) of batches: the first n of it are spread evenly over all, whatever n is.

    It is that of multiples of the golden ratio. The last batch, which may be shorter than the others, stays the last.
    """
    places = np.arange(max(0, count - 1)) * ((5**0.5 - 1) / 2) % 1
    return np.append(np.argsort(places, kind="stable"), np.arange(count)[-1:]).astype(np.int64)


def _cut_activations(ready: Prepared, logger: Log) -> CutActivations | None:
    """Return what stands between the frozen blocks and those that learn; None if none does, or it can't be stored."""
    if ready.model.cut is None:
        return None
    try:
        return CutActivations.of(ready.model.cut, ready.compute)
    except CannotCut as cannot:
        logger.warn(f"the frozen blocks pass each epoch, as their outputs can't be stored, because {cannot}")
        return None


def _for_members(
    frozen: FrozenBackbone, source: Source, rows: np.ndarray, blank: frozenset[int], view: int | None = None
) -> list[ExtractionJob]:
    """Return the extraction of the same rows by each of several backbones. Only images have views."""
    samples, jobs = frozen.samples[source], []
    for member in frozen.members:
        own_view = view if member.augmentation != "none" else None
        own_blank = samples.blank_in(member.backbone.info.modality, blank)
        jobs.append(ExtractionJob(member, source, rows, own_blank, own_view))
    return jobs


def _jobs_of(ready: Prepared, source: Source, needed: Sequence[Split], frozen: FrozenBackbone) -> list[ExtractionJob]:
    """Return the extraction of all rows of a source, with an empty sample for those that the run leaves out.

    If these are many, only the rows that the run uses pass.
    """
    plan = ready.plan
    splits = [split for split in needed if plan.splits[split].source is source]
    used = np.unique(np.concatenate([plan.splits[split].rows for split in splits]))
    blank = frozenset[int]().union(*(plan.blank_rows(split) for split in splits))
    unused = np.setdiff1d(np.arange(source.num_rows), used)
    if len(unused) > MAX_UNUSED * source.num_rows:
        return _for_members(frozen, source, used, blank)
    return _for_members(frozen, source, np.arange(source.num_rows), blank.union(unused.tolist()))


def _frozen_part(activations: CutActivations | None) -> str:
    return "backbone" if activations is None else "blocks"
