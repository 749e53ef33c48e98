"""A run from Python: start it, watch it, read what it left, stop and resume it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeptune.api.html import run_html
from deeptune.api.progress import beside, follow
from deeptune.api.specs import SpecLike, load_spec
from deeptune.errors import CheckpointError, SpecError
from deeptune.formatting import kind_of
from deeptune.runs import RunDirectory, RunState, find_run, read_events, read_records, run_state
from deeptune.runs.control import request_stop
from deeptune.runs.files import read_json_object
from deeptune.runs.launch import make_run, start_runner
from deeptune.runs.state import ending
from deeptune.show.view import View
from deeptune.spec.run_spec import RunSpec
from deeptune.spec.toml import load_spec as read_spec

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from deeptune.api.model import Model
    from deeptune.explain.explanations import Explained

ROOT = "runs"

log = logging.getLogger("deeptune")


def finetune(
    spec: SpecLike,
    changes: Mapping[str, Any] | None = None,
    *,
    output: str | os.PathLike[str] = ROOT,
    detach: bool = False,
    in_process: bool = False,
    progress: bool = True,
) -> Run:
    """Fine-tune a backbone as a spec says, and return the run when it is done.

    `spec` and `changes` are those of `load_spec`. The run's folder is made in `output`. The run is a process of its
    own, which outlives this one; with `detach` this function returns as soon as that process is at work. `in_process`
    trains in this process instead. `progress` shows the run: a dashboard in a terminal, a picture that updates in
    place in a notebook, plain lines on stderr elsewhere. Ctrl+C, or interrupting the notebook's kernel, stops the run
    at its next step, with a checkpoint that `Run.resume` continues from.

    Raises SpecError, DataError, WeightsError, TrainingError or CheckpointError (`deeptune.errors`) with what to change,
    RunStopped when the run was asked to stop, and RunCrashed when its process ended without a word.
    """
    if detach and in_process:
        raise SpecError("detach and in_process exclude each other")
    run = Run(make_run(load_spec(spec, changes), Path(output)))
    return run._go(detach=detach, in_process=in_process, progress=progress)


def load(
    run: Run | RunDirectory | str | os.PathLike[str] = "latest",
    *,
    device: str = "auto",
    runs: str | os.PathLike[str] = ROOT,
) -> Model:
    """Load the best model of a run.

    `run` is a Run, the path of a run's folder, or an id, the start of an id, or "latest" in the folder `runs`. `device`
    is "auto", "cpu", "cuda", "cuda:N" or "mps". Differences from when the model was trained
    (`Model.differences`) are logged as warnings.

    Raises SpecError where there is no such run, CheckpointError where it has no model yet or its files are damaged, and
    WeightsError where its backbone can't be found.
    """
    from deeptune.api.model import Model  # imports pyarrow

    model = Model(run if isinstance(run, Run) else Run(run, runs), device=device)
    for difference in model.differences:
        log.warning("%s: %s", model.run.id, difference)
    return model


class Run:
    """A run's folder: what is in it, and what to do with it.

    `reference` is the path of the folder, or an id, a unique start or end of an id, or "latest" in the folder `runs`.
    Raises SpecError where there is no such run.
    """

    def __init__(
        self, reference: str | os.PathLike[str] | RunDirectory = "latest", runs: str | os.PathLike[str] = ROOT
    ) -> None:
        if not isinstance(reference, (str, os.PathLike, RunDirectory)):
            raise SpecError(f"run: expected a Run, a path, an id or 'latest', got {kind_of(reference)}")
        if not isinstance(reference, RunDirectory):
            reference = find_run(os.fspath(reference), Path(runs))
        self.directory: RunDirectory = reference

    @property
    def id(self) -> str:
        return self.directory.id

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def state(self) -> str:
        """One of starting, running, stopping, paused, done, stopped, failed, crashed, deleted, stale, presumed dead."""
        return self._state.word

    @property
    def status(self) -> dict[str, Any]:
        """Progress of the run: `state`, `detail`, and what `status.json` holds (phase, step, epoch, loss, eta …)."""
        state = self._state
        return {**state.status, "state": state.word, "detail": state.detail}

    @property
    def spec(self) -> RunSpec:
        """The spec, with every choice that "auto" left to the run once it has begun."""
        return read_spec(self.directory.spec)

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of val and test by split, as metrics.json has them; empty before the run has scored."""
        return read_json_object(self.directory.metrics)

    @property
    def result(self) -> dict[str, Any]:
        """How the run ended: state, best epoch, headline metrics, seconds, artefacts; empty before."""
        return read_json_object(self.directory.result)

    @property
    def report(self) -> Path:
        """The report for a browser, one HTML file. Raises CheckpointError before there is one.

        It is written again where test rows were looked at since.
        """
        from deeptune.report import refresh_report

        path = self._existing(self.directory.report)
        refresh_report(self.directory)
        return path

    @property
    def paths(self) -> dict[str, Path]:
        """The files and folders that the run has made so far, by what they hold."""
        run = self.directory
        known = {
            "spec": run.spec,
            "events": run.events,
            "console": run.console,
            "splits": run.splits,
            "labels": run.labels,
            "checkpoint": run.best,
            "metrics": run.metrics,
            "predictions": run.predictions,
            **{f"embeddings/{split}": run.embeddings(split) for split in ("train", "val", "test")},
            "report": run.report,
            "result": run.result,
        }
        return {name: path for name, path in known.items() if path.exists()}

    def events(self, kind: str | None = None) -> Rows:
        """Return the run's events so far, one dictionary each, in order.

        Of one `kind` (step, epoch, warning …) alone.
        """
        found = read_records(self.directory.events)
        return Rows(event for event in found if kind is None or event["kind"] == kind)

    def predictions(self) -> pa.Table:
        """Read each test row: `row`, `truth`, `prediction`, for classes `probabilities` and `confidence`."""
        return self._table(self.directory.predictions)

    def embeddings(self, split: str = "test") -> pa.Table:
        """Return `row`, `label`, `embedding` (list of float32) and the other columns of the data, for a split."""
        return self._table(self.directory.embeddings(split))

    def splits(self) -> pa.Table:
        """Read which row was trained on, validated with and tested on: `row`, `split`, `label`, and `group` if any."""
        return self._table(self.directory.splits)

    def wait(self, timeout: float | None = None, *, progress: bool = True) -> Run:
        """Show the run until it is over, and return it. Raises what ended it, and TimeoutError after `timeout` seconds.

        Interrupting it leaves the run alone.
        """
        state = follow(self.directory, progress=progress, timeout=timeout)
        if not state.over:
            raise TimeoutError(f"{self.id} is {state.word} after {timeout:g} s")
        self._raise_ending(state)
        return self

    def stop(self, timeout: float | None = None) -> Run:
        """Ask the run to stop at its next step, with a checkpoint, and wait until it has."""
        if not self._state.over:
            request_stop(self.directory, "by `Run.stop`")
            state = follow(self.directory, progress=False, timeout=timeout)
            if not state.over:
                raise TimeoutError(f"{self.id} is {state.word} after {timeout:g} s")
        return self

    def resume(self, *, detach: bool = False, in_process: bool = False, progress: bool = True) -> Run:
        """Go on where the run stopped, failed or crashed, as `finetune` does; a run that is done is left as it is."""
        return self if self.state == "done" else self._go(detach=detach, in_process=in_process, progress=progress)

    def model(self, device: str = "auto") -> Model:
        """Return the run's best model, as `deeptune.load` gives it."""
        return load(self, device=device)

    def explain(
        self,
        rows: Sequence[int] | int = 8,
        data: str | os.PathLike[str] | None = None,
        *,
        output: str | os.PathLike[str] | None = None,
        of: str | None = None,
        device: str = "auto",
    ) -> Explained:
        """Explain predictions of rows, or of so many of the worst test rows, and test the explanations.

        `rows` are those of the run's test data, or of the file `data`. `of` is a class in place of the predicted one.
        Pictures and `explanations.json` go into the folder `output`, by default `explanations` in the run, whose report
        then shows them.

        Raises SpecError for rows of `data` without an `output`, CheckpointError where the run has no predictions.
        """
        from deeptune.api.explain import ExplainOptions, explain_rows, worst_rows

        if data is not None and (output is None or isinstance(rows, int)):
            raise SpecError("data: name the rows to explain, and an output folder for what is found")
        chosen = worst_rows(self.directory, rows) if isinstance(rows, int) else list(rows)
        folder = self.directory.explanations if output is None else Path(output)
        options = ExplainOptions(of, device)
        return explain_rows(
            self.directory, chosen, folder, data=None if data is None else os.fspath(data), options=options
        )

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.state})"

    def _repr_html_(self) -> str:
        view = View(self.directory)
        view.look()
        for event in read_events(self.directory.events):
            view.take(event)
        return run_html(view)

    @property
    def _state(self) -> RunState:
        return run_state(self.directory)

    def _go(self, *, detach: bool, in_process: bool, progress: bool) -> Run:
        asked = ["deeptune", "run", str(self.directory.spec)]  # the command that gives this run
        if in_process:
            from deeptune.engine.runner import do_run

            with _rng_states_kept(), beside(self.directory, progress=progress):
                do_run(self.directory, argv=asked)
            return self
        start_runner(self.directory, asked=asked)
        if detach:
            return self
        try:
            state = follow(self.directory, progress=progress)
        except KeyboardInterrupt:
            self.stop()
            raise
        self._raise_ending(state)
        return self

    def _raise_ending(self, state: RunState) -> None:
        if (error := ending(self.directory, state)) is not None:
            raise error

    def _existing(self, path: Path) -> Path:
        if not path.exists():
            raise CheckpointError(
                f"the run {self.id} has no {path.name} (yet): it is {self.state}",
                hint=f"It has: {', '.join(self.paths)}.",
            )
        return path

    def _table(self, path: Path) -> pa.Table:
        import pyarrow.parquet as pq

        return pq.read_table(self._existing(path))


class Rows(list[dict[str, Any]]):
    """Events as dictionaries. `to_pandas()` makes a table of them, with a column for each key."""

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas DataFrame, one row an event; nested keys are dotted (`val.loss`)."""
        import pandas as pd

        return pd.json_normalize(self)


@contextmanager
def _rng_states_kept() -> Iterator[None]:
    """Give the caller back the state of its generators, which a run in this process seeds."""
    import random

    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
