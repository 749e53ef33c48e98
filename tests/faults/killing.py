"""Processes that are killed at a chosen moment. A fork shares the PyTorch that is already loaded."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from deeptune.checkpoint import previous
from deeptune.engine.runner import do_run
from deeptune.engine.train import execute  # noqa: F401  loaded before any fork
from deeptune.runs import RunDirectory, read_events

Work = Callable[[], object]


def start(work: Work) -> int:
    """Do `work` in a fork of this process; returns its pid. It ends with 0, or with 1 and a traceback in a log."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int) -> int:
    """The exit code of a started process; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def go(run: RunDirectory) -> Work:
    """The run, or the rest of it, as the runner does it."""
    return lambda: do_run(run)


def killed_after(seconds: float, work: Work) -> bool:
    """Do `work` and kill its process after a while; whether it was still at work then."""
    pid = start(work)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return wait(pid) == -signal.SIGKILL


def killed_at_write(number: int, work: Work) -> bool:
    """Do `work`, and die at the `number`-th file or folder that it renames or removes among its checkpoints.

    Whether it came to that.
    """
    left = number

    def dying(call: Callable[..., None]) -> Callable[..., None]:
        def wrapped(path: object, *arguments: object, **options: object) -> None:
            nonlocal left
            left -= "/checkpoints/" in str(path) and os.path.exists(str(path))
            if left == 0:
                if call is shutil.rmtree:
                    next(Path(str(path)).iterdir()).unlink()  # half of it is gone
                elif number % 2:
                    call(path, *arguments, **options)  # just after it, as often as just before
                os.kill(os.getpid(), signal.SIGKILL)
            call(path, *arguments, **options)

        return wrapped

    def armed() -> None:
        for module, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
            setattr(module, name, dying(getattr(module, name)))
        work()

    return wait(start(armed)) == -signal.SIGKILL


def same_outcome(one: RunDirectory, other: RunDirectory) -> None:
    """Assert that two finished runs ended with the same weights, metrics, predictions and embeddings, bit for bit."""
    for folder in (one.best, one.last):
        for file in sorted(folder.glob("*.safetensors")):
            twin = other.path / file.relative_to(one.path)
            left, right = load_file(file), load_file(twin)
            assert left.keys() == right.keys(), file
            for name in left:
                assert torch.equal(left[name], right[name]), f"{file.parent.name}/{file.name}: {name}"
        assert not previous(folder).exists()
    assert epochs_of(one) == epochs_of(other)
    assert one.metrics.read_text() == other.metrics.read_text()
    for table in ("predictions.parquet", *(f"embeddings/{split}.parquet" for split in ("train", "val", "test"))):
        assert pq.read_table(one.path / table).equals(pq.read_table(other.path / table)), table
    for run in (one, other):
        hidden = [path.name for path in run.path.rglob("*") if path.name.startswith(".") and path.suffix == ".new"]
        assert not hidden


def epochs_of(run: RunDirectory) -> list[dict]:
    """What was told of each epoch last, but for the time it took."""
    told = {event["epoch"]: event for event in read_events(run.events) if event["kind"] == "epoch"}
    return [
        {name: value for name, value in told[epoch].items() if name not in ("seq", "t", "seconds")}
        for epoch in sorted(told)
    ]


def copy_of(run: RunDirectory, to: Path) -> RunDirectory:
    shutil.copytree(run.path, to, symlinks=True)
    return RunDirectory(to)
