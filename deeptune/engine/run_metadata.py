"""Files that a run writes about itself: its parts, its end, its results."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from deeptune import __version__
from deeptune.checkpoint import Checkpoint
from deeptune.data.columns.report_columns import report_columns
from deeptune.engine.choice import Choice
from deeptune.engine.history import TrainingHistory
from deeptune.engine.out_of_memory import is_out_of_memory
from deeptune.engine.prepare import Prepared
from deeptune.engine.resume import EarlierAttempt
from deeptune.engine.run_logger import RunLogger
from deeptune.engine.setup import Setup
from deeptune.engine.table_files import write_table
from deeptune.engine.versions import versions
from deeptune.errors import CheckpointError, DeepTuneError, RunStopped, TrainingError, first_line
from deeptune.runs import RunDirectory, write_json, write_text
from deeptune.runs.events import EndEvent, Parameters, Rows, StartEvent
from deeptune.runs.process import ProcessIdentity
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.metrics import METRICS, shown_metrics
from deeptune.spec.run_spec import SPLITS


class Clock:
    """When this attempt started, and how long the run has taken with those before it; the system's clock may jump."""

    def __init__(self, before: float = 0.0) -> None:
        self.started = time.time()
        self._began, self._before = time.monotonic(), before

    @property
    def seconds(self) -> float:
        return round(self._before + time.monotonic() - self._began, 3)


def error_to_report(error: BaseException) -> BaseException:
    """Return the error itself, or one clear TrainingError where memory ran out: no traceback helps with that."""
    if not is_out_of_memory(error):
        return error
    first = first_line(error)
    return TrainingError(
        f"out of memory: {first}",
        hint="Free some memory, or choose a smaller train.batch_size, backbone or backbone.image_size.",
    )


def record_end(run: RunDirectory, logger: RunLogger, error: BaseException, clock: Clock) -> None:
    """Write `result.json` and the last event of a run that stopped or failed."""
    state = "stopped" if isinstance(error, (KeyboardInterrupt, RunStopped)) else "failed"
    message, details = f"{type(error).__name__}: {error}".rstrip(": "), None
    if isinstance(error, DeepTuneError):
        message, details = str(error), {"title": error.title, "message": error.message, "hint": error.hint}
    with suppress(CheckpointError):  # a disk that can't be written must not hide the error that ended the run
        logger.events.write(EndEvent(state, message))
        logger.status.update(state=state, message=message, force=True)
        write_json(run.result, {"state": state, "message": message, "error": details, "seconds": clock.seconds})


@dataclass(frozen=True)
class Attempt:
    """An attempt at a run: the spec as it was started, the command line, the clock, and what an earlier one left."""

    spec: RunSpec
    argv: list[str]
    clock: Clock
    earlier: EarlierAttempt | None


def write_inputs(run: RunDirectory, ready: Prepared, attempt: Attempt, checkpoint: Checkpoint | None) -> None:
    """Write what the run is made of, before the first step: spec, provenance, labels, splits, configuration."""
    spec, earlier = ready.spec, attempt.earlier
    write_text(run.spec, dump_spec(spec, comment=f"DeepTune {__version__}: resolved spec of {run.id}"))
    write_json(run.labels, ready.plan.task.to_json())
    write_table(ready.plan.splits_table(), run.splits)
    test = ready.plan.splits["test"]
    if (columns := report_columns(test.source, test.rows, spec.report)) is not None:
        write_table(columns, run.columns)
    ready.backbone.save_config(run.backbone)
    made = provenance(attempt.argv, attempt.clock)
    made["device"] = {
        "name": str(ready.compute.device),
        "reason": ready.compute.reason,
        "precision": ready.compute.precision,
    }
    made["fingerprints"] = {
        "data": ready.plan.fingerprint,
        "test": ready.plan.splits["test"].source.fingerprint(),  # runs on other training files can be compared
        "backbone": ready.backbone.fingerprint,
    }
    made["preprocessing"] = ready.preprocessing_record
    tuning = ready.batch_tuning or (earlier.record.get("tuning") if earlier else None)
    if tuning is not None:
        made["tuning"] = tuning
    made["spec"] = spec.model_dump(mode="json")  # to say later which key was changed
    # A new run from this one chooses anew what was left to it. A resumed run has all that in its spec.
    before = earlier.record.get("asked") if earlier is not None else attempt.spec.model_dump(mode="json")
    if before is not None:
        made["asked"] = before
    if earlier is not None:
        earlier.warn_of_versions(made["versions"])
        step = checkpoint.manifest["training"]["history"]["steps"] if checkpoint else 0
        made["attempts"] = [*earlier.record.get("attempts", []), earlier.attempt(made, step)]
        made["started"] = earlier.record["started"]
    write_json(run.run, made)


def provenance(argv: list[str], clock: Clock) -> dict[str, Any]:
    """Describe the process of a run: its identity, start, command line and library versions."""
    return {
        **ProcessIdentity.here().to_json(),
        "started": clock.started,
        "argv": argv,
        "versions": versions(),
    }


def start_event(ready: Prepared) -> StartEvent:
    """Describe the model, the data and the device of the run."""
    spec = ready.spec
    return StartEvent(
        task=spec.task,
        backbone=spec.backbone.names,
        weights=spec.backbone.origins,
        method=spec.tuning.method,
        device=str(ready.compute.device),
        device_reason=ready.compute.reason,
        rows=Rows(*(len(ready.plan.splits[split].rows) for split in SPLITS)),
        parameters=Parameters(*ready.model.counts()),
        steps=ready.steps,
        epochs=int(spec.train.epochs),
        metric=spec.train.early_stopping.metric,
        patience=int(spec.train.early_stopping.patience),
    )


def run_result(
    setup: Setup, history: TrainingHistory, metrics: dict[str, Any], clock: Clock, choice: Choice | None = None
) -> dict[str, Any]:
    """Return the content of result.json of a run that is done."""
    run, ready, plan = setup.run, setup.ready, setup.ready.plan
    trainable, total = setup.model.counts()
    artefacts = {
        "checkpoint": run.best,
        "predictions": run.predictions,
        "metrics": run.metrics,
        "report": run.report,
        **{f"embeddings_{split}": run.embeddings(split) for split in SPLITS if run.embeddings(split).exists()},
    }
    return {
        "state": "done",
        "best": history.best.record(),
        "epochs": len(history.epochs),
        "stopped_early": history.stopped_early,
        **(
            {"choice": {"model": "head" if choice.head_is_model else "fine-tuned", "said": choice.said}}
            if choice
            else {}
        ),
        "steps": history.steps,
        "skipped_steps": history.skipped,
        "test": headline(metrics.get("test", {})),
        "rows": {split: len(plan.splits[split].rows) for split in SPLITS},
        "drawn": list(plan.drawn),
        "learned": list(plan.learned),
        "skipped": [{"split": bad.split, "row": bad.row, "reason": bad.reason} for bad in plan.bad_samples],
        "on_bad_sample": ready.spec.data.on_bad_sample,
        "parameters": {"trainable": trainable, "total": total},
        "warnings": setup.logger.warnings,
        "artefacts": {name: str(path.relative_to(run.path)) for name, path in artefacts.items()},
        "seconds": clock.seconds,
    }


def headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the single numbers; scikit-learn's macro F1 only where it is another number than that of all classes."""
    shown = shown_metrics(metrics)
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and (name in shown or name not in METRICS)
    }
