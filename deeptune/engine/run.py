"""One run from spec to result: prepare, fit, verify, score, embed."""

from __future__ import annotations

import sys
from typing import Any

import torch

from deeptune.checkpoint import Checkpoint, drop_previous, read_manifest
from deeptune.data.cache.entry import Cache
from deeptune.engine.batch_tuning import tune
from deeptune.engine.choice import Choice, choose, compare, never_better, val_losses
from deeptune.engine.cross_validation import CrossValidation, cross_validated
from deeptune.engine.device import seed_everything
from deeptune.engine.exact_head import ExactHead
from deeptune.engine.head_first import FittedHead, fit_head, restore_head, stored_head
from deeptune.engine.history import TrainingHistory
from deeptune.engine.prepare import Prepared, prepare
from deeptune.engine.refit import Refit, passed_apart
from deeptune.engine.resume import EarlierAttempt, earlier_seconds, find_checkpoint, train_state_of
from deeptune.engine.run_logger import RunLogger
from deeptune.engine.run_metadata import (
    Attempt,
    Clock,
    error_to_report,
    headline,
    provenance,
    record_end,
    run_result,
    start_event,
    write_inputs,
)
from deeptune.engine.sanity import Constant, changes_with_batch
from deeptune.engine.scoring import PassedSplit, embed_splits, headlines, of_fine_tuning, pass_splits, write_scores
from deeptune.engine.setup import Setup, SplitLoaders
from deeptune.engine.train_state import rng_state_kept
from deeptune.engine.training import RunTraining
from deeptune.engine.verify import check_inputs_of, verified_best
from deeptune.model.head import collapsed
from deeptune.report import write_report
from deeptune.runs import RunDirectory, write_json, write_text
from deeptune.runs.events import EndEvent, ResumeEvent
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.defaults import fits_head_first
from deeptune.spec.run_spec import Split


def execute(
    spec: RunSpec,
    run: RunDirectory,
    *,
    logger: RunLogger | None = None,
    force: bool = False,
    argv: list[str] | None = None,
) -> dict[str, Any]:
    """Do the whole run in `run`, or the rest of it, and return the content of result.json.

    `run` is an empty run directory, or that of a run that did not come to its end. Whatever happens is in the
    directory: events, status and, at the end, result.json with `state` `done`, `stopped` or `failed`. Errors are
    raised again after they were recorded. `force` resumes a run even though spec, data or backbone changed.
    """
    own = logger is None
    logger = logger or RunLogger(run)
    clock = Clock(earlier_seconds(logger.events.earlier))
    try:
        with Cache(logger.message, logger.stop.check) as cache:
            attempt = Attempt(spec, argv or sys.argv, clock, EarlierAttempt.read(run, logger, force=force))
            return FineTuning(run, logger, cache, attempt).complete()
    except BaseException as error:
        reported = error_to_report(error)
        record_end(run, logger, reported, clock)
        if reported is error:
            raise
        raise reported from error
    finally:
        if own:
            logger.events.close()


class FineTuning:
    """The fine-tuning of one spec in one run directory.

    The methods are called in the order in which they stand here, or all of them by `complete`. What they find goes into
    the run directory. `setup` and `loaders` are there after `prepare`, and `setup.model` is the model: the one that is
    trained, and after `verify` the one that was read back from the checkpoint.
    """

    setup: Setup
    loaders: SplitLoaders
    check_inputs: dict[str, torch.Tensor]  # inputs of a few training rows
    head: FittedHead | None = None  # that fine-tuning starts from
    cross_validation: CrossValidation | None = None  # of the head, where that takes the place of val
    exact: ExactHead | None = None  # of a run whose head is all that learns
    choice: Choice | None = None  # between that head and the fine-tuned model

    def __init__(self, run: RunDirectory, logger: RunLogger, cache: Cache, attempt: Attempt) -> None:
        self.run, self.logger, self.cache, self.attempt = run, logger, cache, attempt
        self.checkpoint: Checkpoint | None = None  # from which training continues

    def complete(self) -> dict[str, Any]:
        """Do all of the run, and return the content of result.json."""
        self.prepare()
        self.fit_head()
        self.cross_validate()
        history = self.fit()
        self.verify(history)
        metrics = self.score(history)
        self.embed()
        return self.finish(history, metrics)

    def prepare(self) -> None:
        """Read the data, build the model, choose what is left open, and pass the frozen backbone."""
        attempt, logger = self.attempt, self.logger
        if attempt.earlier is None:
            write_text(self.run.spec, dump_spec(attempt.spec))
            write_json(self.run.run, provenance(attempt.argv, attempt.clock))
        ready = prepare(attempt.spec, logger=logger, earlier=attempt.earlier, cache=self.cache)
        ready.model.to(ready.compute.device)
        if attempt.earlier is None:  # a resumed run has the choice in its spec
            ready = tune(ready, attempt.spec, logger)
        for note in ready.plan.all_notes:
            logger.message(note)
        for warning in ready.plan.warnings:
            logger.warn(warning)
        self._record_start(ready)
        # The data is known now: what the head starts from must not depend on how it was read.
        seed_everything(ready.spec.train.seed)
        self.setup = Setup.of(self.run, logger, ready)
        self.loaders = SplitLoaders(self.setup, self.cache)

    def _record_start(self, ready: Prepared) -> None:
        logger, spec, earlier = self.logger, ready.spec, self.attempt.earlier
        self.checkpoint = find_checkpoint(self.run, logger) if earlier else None
        write_inputs(self.run, ready, self.attempt, self.checkpoint)
        logger.status.update(task=spec.task, backbone=spec.backbone.names, method=spec.tuning.method, steps=ready.steps)
        logger.events.write(start_event(ready))
        if earlier:
            history = self.checkpoint.manifest["training"]["history"] if self.checkpoint else {"steps": 0, "epoch": 1}
            logger.events.write(ResumeEvent(history["steps"], history["epoch"]))

    def fit_head(self) -> None:
        """Fit the head that fine-tuning starts from and put it into the model, or read that of an earlier attempt."""
        if fits_head_first(self.setup.ready.spec):
            self.head = (stored_head if self.checkpoint else fit_head)(self.setup, self.cache)

    def cross_validate(self) -> None:
        """Choose weight decay and epochs by cross-validation where that is asked for, or read what was chosen."""
        if self.setup.ready.spec.train.val == "cv":
            self.cross_validation = cross_validated(self.setup, self.loaders, resumed=self.attempt.earlier is not None)
            self.setup.ready = self.cross_validation.apply_to(self.setup.ready)

    def fit(self) -> TrainingHistory:
        """Train the model, or continue its training."""
        setup, logger = self.setup, self.logger
        batches = self.loaders.training()
        self.loaders.report_lengths(batches)
        logger.phase("train")
        if self.checkpoint is not None:
            setup.model.load_tuned_state(self.checkpoint.state)
        elif self.head is None and setup.ready.spec.head.standardise:
            features = self.loaders.pooled_sample()
            if useless := collapsed(features):
                logger.warn(useless)
            setup.model.head.standardise(features)
        with rng_state_kept():
            self.check_inputs = check_inputs_of(setup.ready)
        train_state = train_state_of(self.checkpoint) if self.checkpoint else None
        start = self.head.as_epoch(int(setup.ready.spec.train.epochs)) if self.head else None
        last = self.cross_validation.epoch if self.cross_validation else None
        training = RunTraining(setup, self.loaders, self.check_inputs, train_state, start, last)
        history = training.fit(batches)
        self.exact = training.exact
        if self.exact is not None:
            self.exact.keep_penalties(history.best.epoch)
        if history.stopped_early:
            logger.message(f"no better {history.best.metric} for {history.best.since} epochs: stopped early")
        return history

    def verify(self, history: TrainingHistory) -> None:
        """Read the best model back, and continue with that one. Raises CheckpointError where it is another one."""
        self.logger.phase("verify")
        stored, logits = verified_best(self.setup, self.check_inputs)
        self.setup.use_model(stored)
        if unstable := changes_with_batch(self.setup.ready, self.check_inputs, logits):
            self.logger.warn(unstable)
        history.best = history.best.as_stored(read_manifest(self.run.best)["best"])
        if self.cross_validation is not None:
            history.best.value = self.cross_validation.value

    def score(self, history: TrainingHistory) -> dict[str, Any]:
        """Score val and test, choose between fine-tuning and its head, and write the predictions of test.

        Returns the content of metrics.json.
        """
        self.logger.phase("test")
        if self.exact is not None and self.exact.refits:
            refit = Refit(self.exact.place_chosen, self.exact.place_refitted, self.exact.out_of_fold)
            passed = passed_apart(self.setup, self.loaders, refit, history.best, self.check_inputs)
            return write_scores(self.setup, passed, {})
        passed = pass_splits(self.setup, self.loaders)
        if self.cross_validation is not None:
            passed["val"] = self.cross_validation.val_outputs(self.setup)
            return write_scores(self.cross_validation.setup_for_scoring(self.setup), passed, {})
        if self.head is None or self.head.val is None:
            learned = not self.setup.ready.spec.tuning.frozen
            return write_scores(self.setup, of_fine_tuning(passed) if learned else passed, {})
        return self._score_beside_head(history, passed)

    def _score_beside_head(self, history: TrainingHistory, passed: dict[Split, PassedSplit]) -> dict[str, Any]:
        """Keep fine-tuning, whose outputs were `passed`, or its head, and write the scores of both."""
        assert self.head is not None
        self.choice = choice = self._choose(history, passed)
        self.logger.message(choice.said)
        if not choice.head_is_model:
            return write_scores(self.setup, of_fine_tuning(passed), {"head": {**choice.record(), **self.head.scores}})
        tuned = {"epoch": choice.epoch, **self._tuned_scores(history, passed)}
        passed, scores = self._make_head_the_model(self.head, history, passed)
        return write_scores(self.setup, passed, {"head": {**choice.record(), **scores}, "fine_tuned": tuned})

    def _make_head_the_model(
        self, head: FittedHead, history: TrainingHistory, passed: dict[Split, PassedSplit]
    ) -> tuple[dict[Split, PassedSplit], dict[str, Any]]:
        """Make the head the run's model; return the splits as passed through it, and their headline metrics.

        `passed` are the outputs of the best epoch, which may be the head's own.
        """
        if history.best.epoch:
            restore_head(self.setup, head, self.check_inputs)
            history.best = history.best.as_stored(read_manifest(self.run.best)["best"])
            if head.refitted is None:
                passed = pass_splits(self.setup, self.loaders)
        if head.refitted is None:
            return passed, head.scores
        refit = Refit(head.place, head.place_refitted, head.out_of_fold)
        passed = passed_apart(self.setup, self.loaders, refit, history.best, self.check_inputs)
        return passed, headlines(self.setup, passed)

    def _choose(self, history: TrainingHistory, passed: dict[Split, PassedSplit]) -> Choice:
        """Choose between the head and the best epoch of fine-tuning, whose outputs were `passed`."""
        assert self.head is not None
        assert self.head.val is not None
        setup, best = self.setup, history.best
        start = self.head.val.get(best.metric.removeprefix("val/"))
        if best.epoch == 0:
            return never_better(history, start)
        comparison = None
        if self.head.losses is not None:
            tuned = val_losses(setup, passed["val"].outputs, best.metric)
            comparison = compare(self.head.losses, tuned, setup.ready.plan.splits["val"].groups)
        return choose(best, start, comparison)

    def _tuned_scores(self, history: TrainingHistory, passed: dict[Split, PassedSplit]) -> dict[str, Any]:
        """Return the headline metrics of fine-tuning where the head is the model; only of val if never better."""
        if history.best.epoch:
            return headlines(self.setup, of_fine_tuning(passed))
        epoch = self.choice.epoch if self.choice else None
        return {} if epoch is None else {"val": history.epochs[epoch - 1]["val"]}

    def embed(self) -> None:
        """Write the embeddings that are asked for."""
        if self.setup.ready.spec.embed.splits:
            self.logger.phase("embed")
            embed_splits(self.setup, self.loaders)

    def finish(self, history: TrainingHistory, metrics: dict[str, Any]) -> dict[str, Any]:
        """Write the result and the report; returns the content of result.json."""
        run, logger = self.run, self.logger
        result = run_result(self.setup, history, metrics, self.attempt.clock, self.choice)
        if worse := self._worse_than_constant(metrics):
            logger.warn(worse)
            result |= {"worse_than_constant": worse, "warnings": logger.warnings}
        logger.keep(lambda: write_json(run.result, result))
        for folder in (run.best, run.last):
            drop_previous(folder)
        logger.phase("report")
        try:
            write_report(run.path)
        except Exception as error:  # every result is on the disk by now: a picture of them must not cost the run
            logger.warn(f"report.html could not be written: {type(error).__name__}: {error}")
        logger.events.write(EndEvent("done", test=headline(metrics.get("test", {}))))
        logger.status.update(state="done", phase="done", force=True)
        return result

    def _worse_than_constant(self, metrics: dict[str, Any]) -> str | None:
        """Return a sentence when the model is worse on test, or on val without a test, than one prediction for all."""
        split: Split = "test" if "test" in metrics else "val"
        if split not in metrics:
            return None
        setup = self.cross_validation.setup_for_scoring(self.setup) if self.cross_validation else self.setup
        return Constant(setup.ready, setup.criterion).not_beaten(split, metrics[split])
