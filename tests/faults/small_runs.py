"""What tests of faults in training share: a run directory, what is in its log, and runs that were killed."""

from __future__ import annotations

import functools
import time

from faults import killing
from faults.killing import kill

from deeptune.runs import new_run_directory, read_records, write_text
from deeptune.spec import dump_spec


def on_device(ready):
    ready.model.to(ready.compute.device)
    return ready


def new_run(root, spec):
    run = new_run_directory(root, "test")
    write_text(run.spec, dump_spec(spec))
    return run


def warnings_of(run):
    return [event["message"] for event in read_records(run.events) if event["kind"] == "warning"]


def steps_of(run):
    return [event for event in read_records(run.events) if event["kind"] == "step"]


def until(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


finish = functools.partial(killing.finish, report=False)
start = functools.partial(killing.start, report=False)
LONG = {"epochs": 8, "checkpoint_every": "4 steps", "early_stopping": {"patience": 0}}


def stopped_run(root, spec, *, after=2):
    """A run that was killed after some checkpoints."""
    run = new_run(root, spec)
    process = start(run)
    kinds = lambda: [e for e in read_records(run.events) if e["kind"] == "checkpoint" and e["which"] == "last"]  # noqa: E731
    until(lambda: len(kinds()) >= after)
    kill(process)
    return run
