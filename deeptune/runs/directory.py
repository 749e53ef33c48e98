"""Names and places of a run's files. No other module knows them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deeptune.environment import require_utf8, short_path
from deeptune.errors import SpecError, did_you_mean, listed
from deeptune.runs.files import storage_errors

DEFAULT_ROOT = Path("runs")
PREPARING = ("starting", "data", "backbone", "features")  # phases in which nothing is trained


def is_run(path: Path) -> bool:
    """Check whether a folder is a run directory. The spec is the first file that a run has."""
    return RunDirectory(path).spec.is_file()


def runs_in(root: Path = DEFAULT_ROOT) -> list[RunDirectory]:
    """List the runs in a folder, the newest first."""
    try:
        found = [RunDirectory(child.absolute()) for child in root.iterdir() if is_run(child)] if root.is_dir() else []
    except OSError as error:  # a folder that may not be read, a name that is too long
        raise SpecError(f"cannot look for runs in {root}: {error.strerror or error}") from error
    return sorted(found, key=lambda run: (run.started, run.id), reverse=True)


# The hint where a file of a run is missing or damaged.
COPY_AGAIN = "Copy the run's folder again from where it was made, or train again from its spec.toml."


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run, as paths below `path`. A file exists once the run has got that far."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def started(self) -> float:
        """The time at which the run first started, in seconds since 1970; 0 if the run is gone."""
        try:
            began = json.loads(self.run.read_text(encoding="utf-8"))["started"]
            if isinstance(began, (int, float)) and 0 < began < math.inf:
                return float(began)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # it has not got that far
        try:
            return self.spec.stat().st_mtime
        except OSError:
            return 0.0

    @property
    def failed_before_training(self) -> bool:
        """Check whether the run ended with an error while it prepared: no step was taken and no head was fitted."""
        try:
            result, status = (json.loads(file.read_text(encoding="utf-8")) for file in (self.result, self.status))
            return bool(result["state"] == "failed" and status["phase"] in PREPARING) and not self.last.exists()
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False

    @property
    def reference(self) -> str:
        """The run's name in a command typed here, quoted for a shell: its id or its path."""
        if short_path(self.path.parent) == str(DEFAULT_ROOT):
            return shlex.quote(self.id)
        return shlex.quote(short_path(self.path))

    @property
    def spec(self) -> Path:
        return self.path / "spec.toml"

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def lock(self) -> Path:
        return self.path / "run.lock"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def console(self) -> Path:
        return self.path / "console.log"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def stop_request(self) -> Path:
        return self.control / "stop.json"

    @property
    def splits(self) -> Path:
        return self.path / "splits.parquet"

    @property
    def columns(self) -> Path:
        """The columns of the test rows that the report names."""
        return self.path / "columns.parquet"

    @property
    def labels(self) -> Path:
        return self.path / "labels.json"

    @property
    def backbone(self) -> Path:
        """Configuration and tokenizer of a text backbone, so that using the run needs no hub."""
        return self.path / "backbone"

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best"

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last"

    @property
    def head(self) -> Path:
        """The head that fine-tuning started from."""
        return self.path / "checkpoints" / "head"

    @property
    def out_of_fold(self) -> Path:
        """The settings that cross-validation chose, and its outputs for the training rows."""
        return self.path / "out_of_fold.parquet"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    def embeddings(self, split: str) -> Path:
        return self.path / "embeddings" / f"{split}.parquet"

    @property
    def explanations(self) -> Path:
        return self.path / "explanations"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def report_data(self) -> Path:
        return self.path / "report.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def test_hashes(self) -> Path:
        """The hashes of the test samples that are in no other split."""
        return self.path / "test_hashes.parquet"

    @property
    def learnt_hashes(self) -> Path:
        """The hashes of the samples of train and val."""
        return self.path / "learnt_hashes.parquet"

    @property
    def test_looks(self) -> Path:
        """When test rows were scored or explained, one JSON object a line; later commands append to it."""
        return self.path / "test_looks.jsonl"

    @property
    def notes(self) -> Path:
        """The name, note and tags that a person gave the run."""
        return self.path / "notes.json"

    def holds(self, file: Path) -> bool:
        """Check whether a file, under whatever path, is or would be one of the run's own."""
        own = (
            self.spec, self.run, self.lock, self.events, self.status, self.console, self.control, self.splits,
            self.columns, self.labels, self.backbone, self.best.parent, self.metrics, self.predictions,
            self.embeddings("test").parent, self.report, self.report_data, self.result, self.notes,
            self.test_hashes, self.learnt_hashes, self.test_looks, self.out_of_fold, self.explanations,
        )  # fmt: skip
        file = file.resolve()
        return any(file.is_relative_to(path.resolve()) for path in own)


def new_run_directory(root: Path, name: str) -> RunDirectory:
    """Make `root/<name>-<time>-<hash>/`, with a name that no other run has.

    Raises CheckpointError when the folder cannot be made, and SpecError for a name that is not UTF-8.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    unique = hashlib.sha256(f"{name}{time.time_ns()}{os.getpid()}{secrets.token_hex(8)}".encode()).hexdigest()[:6]
    run = RunDirectory(Path(root).absolute() / f"{name}-{stamp}-{unique}")
    require_utf8(run.path, key="output")
    with storage_errors(run.path):
        run.path.mkdir(parents=True)
        run.control.mkdir()
    return run


def find_run(reference: str, root: Path = DEFAULT_ROOT) -> RunDirectory:
    """Find the run that a path, an id, the unique beginning or end of an id, or `latest` names.

    `latest` is the newest run. One that failed before its training began is passed over, unless all did.

    Raises SpecError when there is none or more than one.
    """
    path, within = Path(reference), list[RunDirectory]()
    with suppress(OSError):  # a name that is too long is not a path
        if reference and path != root and path.is_dir():
            within = runs_in(path)
        if reference and is_run(path):
            return RunDirectory(path.resolve() if ".." in path.parts else path.absolute())
    runs = runs_in(root)
    if reference == "latest" and runs:
        return next((run for run in runs if not run.failed_before_training), runs[0])
    # An id is a name, never a way out of the folder.
    matches = [run for run in runs if run.id.startswith(reference)] if reference else []
    part = "prefix" if matches else "end"  # lists on narrow terminals show the end
    matches = matches or [run for run in runs if reference and run.id.endswith(reference)]
    exact = [run for run in matches if run.id == reference]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        ids = listed((run.id for run in matches), most=5)
        raise SpecError(
            f"{reference!r} is the {part} of {len(matches)} runs in {root}: {ids}",
            hint="Give more of the id.",
        )
    if within:
        shown = listed((path / run.id for run in within), most=5)
        raise SpecError(
            f"there is no run {reference!r}: it is a folder of {len(within)} "
            f"{'run' if len(within) == 1 else 'runs'}: {shown}",
            hint="Give the path of one.",
        )
    near = did_you_mean(reference, [run.id for run in runs])
    raise SpecError(
        f"there is no run {reference!r}: it is not a run directory, nor an id in {root}. {near}".rstrip(),
        hint="Give the path that `deeptune run` printed, an id, or `latest`.",
    )
