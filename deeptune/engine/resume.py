"""Resuming a run: whether it is still the same run, and the checkpoint that training continues from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from deeptune.checkpoint import (
    Checkpoint,
    drop_previous,
    load_checkpoint,
    previous,
    read_manifest,
    remove_checkpoints,
    restore_previous,
)
from deeptune.data.images.bit_depth import FULL
from deeptune.data.loading.preprocessing import stored_preprocessing
from deeptune.engine.history import Best
from deeptune.engine.run_logger import RunLogger
from deeptune.engine.train_state import TrainState
from deeptune.engine.versions import changed
from deeptune.errors import CheckpointError, DataError, DeepTuneError, SpecError, WeightsError
from deeptune.runs import RunDirectory
from deeptune.runs.events import Event, RunEvent
from deeptune.runs.files import read_json
from deeptune.spec import RunSpec
from deeptune.spec.toml import flat


class EarlierAttempt:
    """The record of an earlier attempt at the run, and what has changed since.

    A change is refused, unless `force`: then it is a warning, and listed in run.json.
    """

    def __init__(self, run: RunDirectory, record: dict[str, Any], logger: RunLogger, *, force: bool) -> None:
        self.run, self.record, self.logger, self.force = run, record, logger, force
        self.overridden: list[str] = []

    @classmethod
    def read(cls, run: RunDirectory, logger: RunLogger, *, force: bool) -> EarlierAttempt | None:
        """Read run.json. Returns None where the run ended before it knew its data and backbone."""
        if not run.run.exists():
            return None
        record = read_json(run.run)
        return cls(run, record, logger, force=force) if "fingerprints" in record else None

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How samples were prepared when the run started, whatever the installed libraries say now."""
        return stored_preprocessing(self.record)

    def with_earlier_defaults(self, spec: RunSpec) -> RunSpec:
        """Fill in the values that keys added later had when the run started.

        A run of a version without them had images of 8 bits alone, a new head to start from, and statistics of batch
        normalisation that were updated. Every head learned by steps, and no weights were averaged.
        """
        for section, key, value in (
            ("data", "value_range", list(FULL)),
            ("train", "start", "random"),
            ("train", "batch_norm", "train"),
            ("train", "solver", "steps"),
            ("train", "average", "none"),
        ):
            if key not in self.record["spec"][section]:
                changed = getattr(spec, section).model_copy(update={key: value})
                spec = spec.model_copy(update={section: changed})
        return spec

    def require_spec(self, spec: RunSpec) -> None:
        then, now = flat(self.record["spec"]), flat(spec.model_dump(mode="json"))
        changed = [
            f"{key}: {then[key]!r} when it started, {now.get(key)!r} now"
            for key in sorted(then)  # a key that a later version added has no former value
            if then[key] != now.get(key)
        ]
        if changed:
            self._refuse(SpecError, f"{self.run.spec} was changed:\n  " + "\n  ".join(changed), "spec.toml")

    def require_data(self, fingerprint: str) -> None:
        self._require(DataError, "data", fingerprint)

    def require_backbone(self, fingerprint: str | None) -> None:
        self._require(WeightsError, "backbone", fingerprint)

    def warn_of_versions(self, now: dict[str, str]) -> None:
        then = self.record.get("versions") or {}
        if others := changed(then, now):
            self.logger.warn(f"other versions than when the run started ({others}): last digits may differ")

    def attempt(self, provenance: dict[str, Any], step: int) -> dict[str, Any]:
        """Describe this attempt for run.json."""
        recorded = {key: provenance[key] for key in ("started", "pid", "host", "argv", "versions")}
        return {**recorded, "from_step": step, "overridden": self.overridden}

    def _require(self, kind: type[DeepTuneError], what: str, fingerprint: str | None) -> None:
        then = self.record["fingerprints"].get(what)
        if then != fingerprint:
            contents = "contents of its files" if what == "data" else "weights"
            self._refuse(
                kind, f"the {contents} changed: {str(then)[:19]}… when it started, {str(fingerprint)[:19]}… now", what
            )

    def _refuse(self, kind: type[DeepTuneError], difference: str, what: str) -> None:
        if not self.force:
            raise kind(
                f"{what}: this is not the run that was started: {difference}",
                hint=f"Put the former {what} back, start a new run, or resume with force, which the run records.",
            )
        self.overridden.append(difference)
        self.logger.warn(f"resumed with force: {what}: {difference}")


def find_checkpoint(run: RunDirectory, logger: RunLogger) -> Checkpoint | None:
    """Return the newest undamaged checkpoint of training, with the best one of its time in `run.best`.

    Logs a damaged one and takes the one before it. Returns None where there is none: training then starts from its
    first step, and gives the same result later.
    """
    damaged = []
    for folder in (run.last, previous(run.last)):
        if not folder.exists():
            continue
        try:
            checkpoint = load_checkpoint(folder)
            _settle_best(run, checkpoint)
        except CheckpointError as error:
            damaged.append(error.message)
            continue
        if folder != run.last:
            restore_previous(run.last)
        if damaged:
            step = checkpoint.manifest["training"]["history"]["steps"]
            logger.warn(f"{'; '.join(damaged)}: training continues from the checkpoint before it, of step {step}")
        return checkpoint
    if damaged:
        logger.warn(f"{'; '.join(damaged)}: training starts again from its first step")
    for folder in (run.last, run.best, run.head):
        remove_checkpoints(folder)
    return None


def train_state_of(checkpoint: Checkpoint) -> TrainState:
    """Return the state of training in a checkpoint."""
    return TrainState(checkpoint.training, checkpoint.manifest["training"])


def _settle_best(run: RunDirectory, checkpoint: Checkpoint) -> None:
    """Make `run.best` the one that was the best when `checkpoint` was written, or a better one that came later.

    Raises CheckpointError when there is none that is whole.
    """
    history = checkpoint.manifest["training"]["history"]
    best = Best(**history["best"])
    if not best.found:
        remove_checkpoints(run.best)
        return
    found: dict[tuple[int, ...], Any] = {}
    problems = []
    for folder in (previous(run.best), run.best):
        if folder.exists():
            try:
                stored = best.as_stored(load_checkpoint(folder).manifest["best"])
                found[stored.epochs] = folder
            except CheckpointError as error:
                problems.append(error.message)
    epochs = best.epochs if best.epochs in found else max(found, key=lambda one: one[-1], default=(-1,))
    if epochs[-1] < best.epochs[-1]:
        raise CheckpointError("; ".join(problems) or f"{run.best} is missing")
    if found[epochs] == run.best:
        drop_previous(run.best)
    else:
        restore_previous(run.best)
    if epochs != best.epochs:  # it stays until training is past that epoch again
        history["best"] = asdict(best.as_stored(read_manifest(run.best)["best"]))


def earlier_seconds(events: Iterable[Event]) -> float:
    """Return the seconds that earlier attempts took, by their events."""
    total, first, last = 0.0, None, 0.0
    for event in events:
        if isinstance(event, RunEvent):
            total += max(0.0, last - first) if first is not None else 0.0
            first = event.t
        last = event.t
    return total + (max(0.0, last - first) if first is not None else 0.0)
