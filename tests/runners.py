"""Runners as processes of their own, without the seconds that a fresh PyTorch takes: forks of this one."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deeptune.runs import RunDirectory, new_run_directory, read_records, run_state, write_json, write_text
from deeptune.spec import dump_spec
from deeptune.spec.toml import validate

PATIENCE = 60.0  # seconds that anything may take on a busy machine


def until(condition: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Wait for a condition to hold, and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)
    return found


@contextmanager
def child(work: Callable[[], object], console: Path | None = None) -> Iterator[int]:
    """Do `work` in a fork that leads a session of its own; it is killed at the end, when it still lives."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            if console is not None:
                log = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                os.dup2(log, 1)
                os.dup2(log, 2)
            work()
            code = 0
        except BaseException as error:
            code = getattr(error, "exit_code", 1)
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


@contextmanager
def holding(run: RunDirectory, *, state: str = "running", heartbeat: float = 0.0, **status: Any) -> Iterator[int]:
    """A process that holds the run's lock and does nothing; `heartbeat` is how long ago it gave a sign of life."""
    from deeptune.runs.lock import run_lock

    ready, told = os.pipe()

    def hold() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with run_lock(run):
            told_status = {"state": state, "pid": os.getpid(), "heartbeat": time.time() - heartbeat, **status}
            write_json(run.status, told_status)
            os.write(told, b"x")
            time.sleep(600)

    with child(hold) as pid:
        os.read(ready, 1)
        os.close(ready)
        os.close(told)
        yield pid


@contextmanager
def runner(run: RunDirectory) -> Iterator[int]:
    """A real runner at work on `run`."""
    import torch

    from deeptune.engine import run as engine  # before the fork: its imports take seconds
    from deeptune.engine.runner import do_run

    assert engine.execute
    torch.set_num_threads(1)
    with child(lambda: do_run(run), run.console) as pid:
        yield pid


def new_run(root: Path, data: Path, *, network: str = "mobilenet_v3_small", **train: Any) -> RunDirectory:
    """The directory of a run on tiny images that would go on for days.

    By default the network is small, as each epoch writes it several times and with its optimizer.
    """
    settings = {"epochs": 100_000, "batch_size": 8, "device": "cpu", "workers": 0, **train}
    spec = {
        "data": {"path": str(data)},
        "backbone": {"name": network, "weights": "random", "image_size": 32},
        "tuning": {"method": "full"},
        "train": {"early_stopping": {"patience": 0}, **settings},
    }
    run = new_run_directory(root, "tiny")
    write_text(run.spec, dump_spec(validate(spec)))
    return run


def step(run: RunDirectory) -> int:
    """The step that a run is at."""
    return run_state(run).status.get("step") or 0


def goes_on(run: RunDirectory, *, steps: int = 3) -> bool:
    """Whether the run gets on by some steps."""
    at = step(run)
    return until(lambda: step(run) >= at + steps)


def kinds(run: RunDirectory) -> list[str]:
    return [event["kind"] for event in read_records(run.events)]
