"""The passes of a probe: rows through one backbone, as far as the time allows."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from deeptune.data.cache.entry import Cache
from deeptune.data.loading.features import Features
from deeptune.data.splits.plan import DataPlan
from deeptune.engine.device import tokens_at_once
from deeptune.engine.extraction_job import ExtractionJob, FrozenBackbone
from deeptune.engine.feature_extraction import FeatureExtraction, source_jobs
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.prepare import Prepared
from deeptune.errors import TrainingError
from deeptune.nvml import NvidiaGpu
from deeptune.probing.candidates import Candidate
from deeptune.probing.ranking import RankedBackbone
from deeptune.runs.control import StopFlag
from deeptune.spec.estimate import estimate_memory
from deeptune.spec.modalities import MODALITIES
from deeptune.spec.run_spec import SPLITS, Split

PILOT_ROWS = 96  # rows from which on the pace of a backbone is known
SCORED: tuple[Split, ...] = ("train", "val")


def _ignore(*_: object) -> None:
    """Do nothing with what is reported."""


@dataclass
class ProbeLog:
    """The callbacks of a probe: `tell` gets sentences, and `show(doing, done, total)` its progress.

    `phase` and `progress` raise RunStopped once `stop` was requested.
    """

    tell: Callable[[str], None] = _ignore
    show: Callable[[str, int, int], None] = _ignore
    gpu: NvidiaGpu | None = None
    doing: str = "reading"
    stop: StopFlag = field(default_factory=StopFlag)

    def phase(self, name: str) -> None:
        """Stop if that was requested. Phases come and go many times in a probe: `doing` says what is done."""
        self.stop.check()

    def warn(self, message: str) -> None:
        """Tell a warning."""
        self.tell(f"warning: {message}")

    def message(self, text: str) -> None:
        """Leave out what a run would log of each backbone."""

    def progress(self, done: int, total: int) -> None:
        """Show how much is done."""
        self.stop.check()
        self.show(self.doing, done, total)


@dataclass
class ProbedFeatures:
    """The stored features of a backbone whose rows have passed, and the rows of train and val.

    `pace` is the seconds that a row takes, None where none had to pass.
    """

    row: RankedBackbone
    plan: DataPlan
    features: list[tuple[Split, Features]]
    key: str
    total: int
    done: int
    pace: float | None

    @property
    def complete(self) -> bool:
        return self.done == self.total

    def usable(self) -> list[tuple[int, int]]:
        """Return the places (split, position in it) of the rows of train and val whose features are there."""
        return [
            (at, int(place))
            for at, (split, features) in enumerate(self.features)
            for place in np.flatnonzero(features.done(self.plan.splits[split].rows))
        ]


class Pace:
    """Measures how long a row takes, and says when enough rows have passed.

    That is after `rows` of them or, where that is 0, once it shows that all will take more than `share` seconds.
    """

    def __init__(self, share: float, rows: int = 0) -> None:
        self.share, self.rows = share, rows
        self.began: tuple[float, int] | None = None  # the time after the first batch, and the rows by then
        self.seconds: float | None = None  # a row

    def enough(self, extraction: FeatureExtraction) -> bool:
        """Check whether to end the pass."""
        now, passed, done = time.monotonic(), extraction.passed, extraction.done
        if passed and self.began is None:
            self.began = now, passed  # the first batch takes longer than the others
        elif self.began is not None and passed > self.began[1]:
            self.seconds = (now - self.began[0]) / (passed - self.began[1])
        if self.rows:
            return done >= self.rows
        if self.seconds is None or done < PILOT_ROWS:
            return False
        return self.seconds * (extraction.total - done) > max(0.0, self.share)


def pass_rows(ready: Prepared, cache: Cache, candidate: Candidate, log: ProbeLog, pace: Pace) -> ProbedFeatures:
    """Pass the rows of train and val through a frozen backbone, until `pace` says that it is enough.

    Raises TrainingError where neither the cache nor memory takes the features.
    """
    plan = ready.plan
    frozen = FrozenBackbone.of(ready)
    wanted = [split for split in SCORED if len(plan.splits[split])]
    needed = [split for split in SPLITS if len(plan.splits[split])]  # as a run asks, for the same names in the cache
    sources = {id(plan.splits[split].source) for split in wanted}
    jobs = [job for job in source_jobs(ready, needed, frozen) if id(job.source) in sources]
    total = sum(len(job.rows) for job in jobs)
    device = ready.compute.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    extraction = FeatureExtraction(cache, log.progress, MicroBatcher(log.warn, tokens=tokens_at_once(device)), total)
    extraction.enough = lambda: pace.enough(extraction)
    of_source = {}
    for job in jobs:
        features = extraction.run(job)
        if features is None:
            raise TrainingError(f"features are not stored, because {extraction.reasons[0]}")
        of_source[id(job.source)] = features
    stored = [(split, of_source[id(plan.splits[split].source)]) for split in wanted]
    done = sum(int(one.records.done.sum()) for one in of_source.values())
    key = _key(jobs)
    row = _described(ready, candidate)
    seconds = None if pace.seconds is None else round(pace.seconds * total, 3)
    return ProbedFeatures(replace(row, feature_seconds=seconds), plan, stored, key, total, done, pace.seconds)


def _described(ready: Prepared, candidate: Candidate) -> RankedBackbone:
    device, backbone = ready.compute.device, ready.backbone
    parameters = sum(parameter.numel() for parameter in backbone.net.parameters())
    memory, source = 4 * parameters, "weights"
    size = MODALITIES[ready.plan.modality].size_of(backbone.preprocessing)
    estimate = estimate_memory(ready.spec, backbone.info, ready.plan.outputs, on_gpu=device.type == "cuda", tokens=size)
    if device.type == "cuda":
        memory, source = torch.cuda.max_memory_allocated(device), "peak"
    elif estimate is not None:
        memory, source = estimate.total, "estimate"
    return RankedBackbone(
        candidate.name, candidate.weights, backbone.width, parameters, memory=memory, memory_from=source
    )


def _key(jobs: list[ExtractionJob]) -> str:
    content = json.dumps([job.ingredients() for job in jobs], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
