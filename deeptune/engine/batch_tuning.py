"""Measure what suits the machine, with real optimizer steps on real rows.

It measures how many rows fit in one pass, and which precision, memory format and compilation are the fastest.
The effective batch size, and so the learning rate, stay what the recipe says. What is chosen is in how many parts a
step passes. Afterwards the model and the random number generators are as before.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from deeptune.data.loading.loader import Batch, batch_slices
from deeptune.data.splits.split_data import SplitData
from deeptune.engine.device import Compute, choose_compute, has_bf16_units
from deeptune.engine.loaders import split_loader
from deeptune.engine.loop import Hooks, fit
from deeptune.engine.micro_batch import MicroBatcher, each_micro_batch
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.out_of_memory import is_out_of_memory
from deeptune.engine.prepare import Prepared, count_steps, make_criterion
from deeptune.engine.run_logger import RunLogger
from deeptune.engine.tuning_trial import HEADROOM, PeakMemory, RepeatedPieces, Trial, memory_format, state_kept
from deeptune.errors import RunStopped, TrainingError, first_line
from deeptune.spec.modalities import MODALITIES
from deeptune.spec.run_spec import RunSpec, TrainSpec

NEAR = 0.05  # rates this close are equal: the larger batch is taken
# bf16 rounds at 2^-8. Cross entropy moves by at most twice the largest error of a logit, and logits are of the order of
# one, so that a few roundings on the way make 0.02; what is beyond is another computation.
TOLERANCE = 0.02
STEPS = 5  # steps of a trial that is timed; the first is not timed, as it allocates and compiles
STEPS_TO_FIT = 2  # steps of a trial of memory; the second is the first one that has the optimizer's state beside it


def tune(ready: Prepared, asked: RunSpec, logger: RunLogger) -> Prepared:
    """Return `ready` with what was measured in its spec.

    `asked` is the spec before it was resolved, whose `"auto"` are free.
    Raises TrainingError when not even the fewest rows fit into memory.
    """
    train = asked.train
    ways, kind = train.tune, MODALITIES[ready.plan.modality]
    sizes = train.batch_size == "auto" and (not kind.counts_tokens or train.token_budget == "auto")
    if ready.spec.tuning.method == "partial":  # what is frozen passes once, in batches of its own
        if ways:
            logger.message("train.tune: nothing to measure, as the frozen backbone is passed once")
        return ready
    if not (sizes or ways):
        return ready
    bench = _Bench(ready, logger)
    chosen = bench.find_size(by_speed=ways or ready.compute.device.type == "cuda") if sizes else None
    if ways:
        start = chosen or bench.trial(ready.spec.train, STEPS)
        formats = _memory_formats(train, ready)
        chosen = bench.find_fastest(start, _precisions(train, ready.compute), formats, compiled=(train.compile or None))
    assert chosen is not None
    for trial in bench.trials:
        logger.message(f"tried {trial}")
    values = {
        "batch_size": chosen.rows,
        "accumulation": chosen.pieces,
        "token_budget": chosen.tokens,
        "precision": chosen.precision,
        "memory_format": chosen.memory_format,
        "compile": chosen.compile,
    }
    ready.backbone.arrange(chosen.memory_format)
    spec = ready.spec.model_copy(update={"train": ready.spec.train.model_copy(update=values)})
    compute = ready.compute
    if chosen.precision != compute.precision:
        made = choose_compute(str(compute.device), chosen.precision)
        compute = replace(made, reason=f"{compute.device} as before; {chosen.precision} by measurement")
    if ways:
        logger.message(f"train.tune: {chosen.name} is the fastest for {ready.steps:,} steps")
    if sizes:
        logger.message(batch_size_text(spec, len(ready.plan.splits["train"].rows)))
        if bench.norms and chosen.rows < int(ready.spec.train.batch_size):
            logger.warn(f"batch normalisation sees {chosen.rows} rows at a time, as more did not fit into memory")
    found = {"chosen": chosen.record(), "trials": [trial.record() for trial in bench.trials]}
    return replace(ready, spec=spec, compute=compute, steps=count_steps(spec, ready.plan), batch_tuning=found)


def batch_size_text(spec: RunSpec, rows: int) -> str:
    """Describe the effective batch size and its learning rate; `rows` counts training rows."""
    train = spec.train
    effective = int(train.batch_size) * train.accumulation
    parts = f", of which at most {train.token_budget:,} tokens pass at once" if train.token_budget else ""
    return (
        f"batch size {train.batch_size} × {train.accumulation} accumulated = {effective} effective{parts}; "
        f"learning rate {float(train.learning_rate):g} is for {effective}"
        + (f"; a step has all {rows:,} training rows" if rows < effective else "")
    )


def _precisions(train: TrainSpec, compute: Compute) -> list[str]:
    """List the precisions to try: the one that the spec names, or those that the device has units for."""
    if train.precision != "auto":
        return [train.precision]
    bf16 = ["bf16"] if compute.device.type == "cpu" and has_bf16_units() else []
    return list(dict.fromkeys([compute.precision, "fp32", *bf16]))


def _memory_formats(train: TrainSpec, ready: Prepared) -> list[str]:
    """Return the format that was asked for; both where there are convolutions to be faster in one of them."""
    maps = any(isinstance(module, nn.Conv2d) for module in ready.backbone.modules())
    if train.memory_format != "auto" or not maps:
        return [ready.backbone.memory_format]
    return ["channels_last", "contiguous"]


class _Bench:
    """Trials of steps, always over the same rows: the longest texts, or evenly picked images."""

    def __init__(self, ready: Prepared, logger: RunLogger) -> None:
        self.ready, self.logger = ready, logger
        self.criterion = make_criterion(ready)
        self.trials: list[Trial] = []
        train = ready.spec.train
        self.batch = _longest(ready, int(train.batch_size) * train.accumulation)
        self.norms = ready.spec.tuning.method == "full" and any(
            isinstance(getattr(module, "running_mean", None), torch.Tensor) for module in ready.model.modules()
        )

    def find_size(self, *, by_speed: bool) -> Trial:
        """Find how much passes at once, in rows of images or tokens of texts.

        It is the fastest that leaves the headroom, or simply the most.
        Where batch normalisation learns it is the most: fewer rows would change its statistics.
        """
        by_speed = by_speed and not self.norms
        tried: list[Trial] = []
        counts_tokens = MODALITIES[self.ready.plan.modality].counts_tokens
        for parts in self._token_budgets() if counts_tokens else self._batch_sizes():
            tried.append(self.trial(parts, STEPS if by_speed else STEPS_TO_FIT))
            best = max((one.samples for one in tried if one.fits), default=0.0)
            if tried[-1].fits and (not by_speed or tried[-1].samples < best * (1 - NEAR)):
                break
        fitting = [one for one in tried if one.fits]
        if not fitting:
            if tried[-1].problem:
                raise TrainingError(
                    f"train.batch_size: not even {tried[-1].at_once} at once can be trained: {tried[-1].problem}",
                    hint="Choose a smaller backbone, backbone.image_size or backbone.max_length, or tuning.method = "
                    "'partial' or 'lora'.",
                )
            self.logger.warn(
                f"{tried[-1].at_once} at once fit into memory, but leave less than {HEADROOM:.0%} of what was free"
            )
            return tried[-1]
        best = max(one.samples for one in fitting)
        return next(one for one in fitting if not by_speed or one.samples >= best * (1 - NEAR))

    def _batch_sizes(self) -> Iterator[TrainSpec]:
        train = self.ready.spec.train
        rows = whole = int(train.batch_size)
        while True:
            yield train.model_copy(update={"batch_size": rows, "accumulation": train.accumulation * whole // rows})
            if rows % 2 or rows // 2 < (2 if self.norms else 1):
                return
            rows //= 2

    def _token_budgets(self) -> Iterator[TrainSpec]:
        """List the budgets to try: the resolved one; then halves of what passed at once, down to one of these texts."""
        train = self.ready.spec.train
        yield train
        rows = MicroBatcher(tokens=int(train.token_budget) or None).rows(self.batch)
        while rows := min(rows, int(train.batch_size)) // 2:
            yield train.model_copy(update={"token_budget": rows * self.batch.width})

    def find_fastest(self, start: Trial, precisions: list[str], formats: list[str], *, compiled: bool | None) -> Trial:
        """Find the precision and memory format, compiled or not, that ends the run first.

        Its loss must agree with plain fp32.
        `compiled` fixes that choice. What is measured already is not measured again.
        """
        size = {"batch_size": start.rows, "accumulation": start.pieces, "token_budget": start.tokens}
        known = {_way(start): start} if start.samples else {}

        def trial(*way: Any) -> Trial:
            if way not in known:
                keys = dict(zip(("precision", "memory_format", "compile"), way, strict=True))
                known[way] = self.trial(self.ready.spec.train.model_copy(update=size | keys), STEPS)
            return known[way]

        plain = trial("fp32", start.memory_format, False)
        choices = (False, True) if compiled is None else (compiled,)
        able = [trial(*way) for way in itertools.product(precisions, formats, choices)]
        agreeing = [one for one in able if one.fits and (one is plain or agrees(one.loss, plain.loss))]
        return min(agreeing, key=lambda one: one.extra + one.seconds * self.ready.steps, default=start)

    def trial(self, train: TrainSpec, steps: int) -> Trial:
        """Run some optimizer steps of the run's own loop, each over the same rows."""
        self.logger.stop.check()
        ready, rows = self.ready, int(train.batch_size)
        compute = choose_compute(str(ready.compute.device), train.precision)
        pieces = [self.batch.part(part) for part in batch_slices(len(self.batch), rows, training=rows > 1)]
        train = train.model_copy(update={"epochs": 1, "accumulation": len(pieces), "checkpoint_every": "1 h"})
        accumulation = self.ready.spec.train.accumulation * int(self.ready.spec.train.batch_size) // rows
        tokens, layout = int(train.token_budget), train.memory_format
        trial = Trial(rows, accumulation, train.precision, train.compile, tokens, layout)
        batches = RepeatedPieces(pieces, steps, compute.device)
        with state_kept(ready.model), memory_format(ready.backbone, layout), PeakMemory(compute.device) as peak:
            try:
                learner = Learner(ready.model, self.criterion, compute)
                history = fit(learner, train, batches, Hooks(check=self.logger.stop.check))
                fits, used = history.at_once is None and peak.fits(), peak.bytes
                loss = self._loss(pieces, compute, tokens)
            except RunStopped:
                raise
            except TrainingError as error:
                trial = replace(trial, problem=error.message)
            except Exception as error:
                if is_out_of_memory(error):  # wherever it struck, this way does not fit
                    trial = replace(trial, problem=f"out of memory with {trial.at_once} at once")
                elif not train.compile:  # whatever a compiler has against a model is not a fault of the run
                    raise
                else:
                    first = first_line(error)
                    trial = replace(trial, problem=f"can't be compiled: {first[:200]}")
            else:
                times = np.diff(batches.marks).tolist()
                seconds = statistics.median(times[1:])
                extra = max(0.0, times[0] - seconds) if train.compile else 0.0
                samples = len(self.batch) / seconds if steps > STEPS_TO_FIT else 0.0
                problem = f"out of memory with {trial.at_once} at once" if history.at_once is not None else ""
                trial = replace(
                    trial, fits=fits, seconds=seconds, extra=extra, peak=used, loss=loss, samples=samples,
                    problem=problem,
                )  # fmt: skip
        if train.compile:
            torch.compiler.reset()
        self.trials.append(trial)
        return trial

    @torch.no_grad()
    def _loss(self, pieces: list[Batch], compute: Compute, tokens: int) -> float:
        """Return the mean loss of the rows in fp32, without dropout, in parts that fit.

        Raises TrainingError if none does.
        """
        self.ready.model.eval()

        def sums(piece: Batch) -> tuple[float, float]:
            moved = piece.to(compute.device)
            assert moved.targets is not None
            loss = self.criterion.sum(self.ready.model(moved.inputs), moved.targets)
            return float(loss), float(self.criterion.count(moved.targets))

        found = [both for _, both in each_micro_batch(pieces, sums, MicroBatcher(tokens=tokens or None))]
        return sum(loss for loss, _ in found) / sum(count for _, count in found)


def _way(trial: Trial) -> tuple[str, str, bool]:
    return trial.precision, trial.memory_format, trial.compile


def agrees(loss: float, plain: float) -> bool:
    """Check whether a loss is that of plain fp32, but for rounding."""
    return abs(loss - plain) <= TOLERANCE * max(1.0, abs(plain))


def _longest(ready: Prepared, count: int) -> Batch:
    """Return one batch of `count` training rows (or of all): the longest texts, or evenly picked images."""
    data = ready.plan.splits["train"]
    lengths = split_loader(ready, "train", shuffle=False).lengths
    count = min(count, len(data.rows))
    if lengths is not None:
        picked = np.sort(np.argsort(lengths, kind="stable")[-count:])
    else:
        picked = np.linspace(0, len(data.rows) - 1, count).round().astype(np.int64)
    part = SplitData(data.source, data.rows[picked], data.targets[picked])
    train = ready.spec.train.model_copy(update={"batch_size": count, "workers": 0})
    whole = replace(ready, spec=ready.spec.model_copy(update={"train": train}))
    return next(iter(split_loader(whole, "train", shuffle=False, data=part)))
