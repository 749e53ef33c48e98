"""Processes that are killed at a chosen moment.

They are forks of a server that has loaded PyTorch and done nothing else: quick to start, and free of locks that other
threads hold.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from deeptune.checkpoint import previous
from deeptune.data.sources.parquet import open_source
from deeptune.engine import run as run_module
from deeptune.engine.runner import do_run
from deeptune.runs import RunDirectory, read_records

_SERVER = multiprocessing.get_context("forkserver")
_LAZY = [  # what a run imports where it first needs it: a second or more in each process
    "deeptune.report.html", "deeptune.report.plots", "deeptune.tasks.multilabel", "matplotlib.backends.backend_svg",
    "matplotlib.figure", "scipy.optimize", "scipy.stats", "sklearn.isotonic", "sklearn.linear_model", "sklearn.metrics",
]  # fmt: skip
_SERVER.set_forkserver_preload(
    ["deeptune.engine.run", "deeptune.backbones.timm", "deeptune.backbones.transformers", "torchvision", "peft", *_LAZY]
)


def small_sample(name: str, file: Path, rows: int = 160) -> Path:
    """Some rows of a sample, evenly spread, in a file of their own.

    More rows than the sample has are its pictures again, with bytes after their end that make them others to the cache.
    """
    table = pq.read_table(open_source(f"sample:{name}").files[0])
    if rows <= table.num_rows:
        table = table.take(list(range(0, table.num_rows, table.num_rows // rows))[:rows])
    else:
        table = table.take([row % table.num_rows for row in range(rows)])
        pictures = [picture + b"%d" % row for row, picture in enumerate(table["images"].to_pylist())]
        table = table.set_column(table.column_names.index("images"), "images", [pictures])
    pq.write_table(table, file)
    return file


def start(run: RunDirectory, *, report: bool = True) -> ForkServerProcess:
    """Do the run, or the rest of it, in a process of its own, as the runner does it; with `report.html` or without."""
    return _started(_go, run, report)


def wait(process: ForkServerProcess) -> int:
    """The exit code of a started process: 0, or 1 after an error; negative for a signal."""
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def finish(run: RunDirectory, *, report: bool = True) -> RunDirectory:
    """Do the run, or the rest of it, to its end."""
    assert wait(start(run, report=report)) == 0
    return run


def kill(process: ForkServerProcess) -> None:
    process.kill()
    process.join()


def killed_after(events: int, seconds: float, run: RunDirectory) -> bool:
    """Do the run and kill its process some seconds after its `events`-th event; whether it was still at work then.

    Events, not the clock alone: a machine is not always equally fast.
    """
    until = log_lines(run) + events
    process = start(run)
    while log_lines(run) < until and process.is_alive():
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    return wait(process) == -signal.SIGKILL


def log_lines(run: RunDirectory) -> int:
    return run.events.read_bytes().count(b"\n") if run.events.exists() else 0


def killed_at_write(number: int, run: RunDirectory) -> bool:
    """Do the run, and die at the `number`-th file or folder that it renames or removes among its checkpoints.

    Whether it came to that.
    """
    return wait(_started(_go_and_die, run, number)) == -signal.SIGKILL


def killed_at_block(number: int, run: RunDirectory, cache: Path) -> bool:
    """Do a run with a cache of its own, and die at the `number`-th block of features that it stores.

    It dies while the block is written, or when the block is on the disk and not yet in the record. Returns whether the
    run got that far.
    """
    return wait(_started(_go_and_die_at_block, run, cache, number)) == -signal.SIGKILL


def _started(work: Callable[..., None], *arguments: object) -> ForkServerProcess:
    process = _SERVER.Process(target=work, args=arguments)
    process.start()
    return process


def _go(run: RunDirectory, report: bool = True) -> None:
    torch.set_num_threads(1)
    if not report:
        run_module.write_report = lambda path: None  # a third of the time of so small a run
    do_run(run)


def _go_and_die(run: RunDirectory, number: int) -> None:
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

    for module, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
        setattr(module, name, dying(getattr(module, name)))
    _go(run, report=False)


def _go_and_die_at_block(run: RunDirectory, cache: Path, number: int) -> None:
    from deeptune.data.cache import entry

    os.environ["DEEPTUNE_CACHE"] = str(cache)
    entry.FLUSH_INTERVAL = 0.0
    left, pwrite, fsync = number, os.pwrite, os.fsync

    def dying_write(handle: int, content: memoryview, place: int) -> int:
        nonlocal left
        left -= "/features/" in os.readlink(f"/proc/self/fd/{handle}")
        if left == 0 and number % 2:
            pwrite(handle, content[: len(content) // 2], place)
            os.kill(os.getpid(), signal.SIGKILL)
        return pwrite(handle, content, place)

    def dying_sync(handle: int) -> None:
        fsync(handle)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    os.pwrite, os.fsync = dying_write, dying_sync
    _go(run, report=False)


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
        if (one.path / table).exists() or (other.path / table).exists():  # there is none of a split without rows
            assert pq.read_table(one.path / table).equals(pq.read_table(other.path / table)), table
    for run in (one, other):
        hidden = [
            path.name for path in run.path.rglob("*") if path.name.startswith(".") and path.suffix in (".new", ".tmp")
        ]
        assert not hidden


def epochs_of(run: RunDirectory) -> list[dict]:
    """What was told of each epoch last, but for the time it took."""
    told = {event["epoch"]: event for event in read_records(run.events) if event["kind"] == "epoch"}
    return [
        {name: value for name, value in told[epoch].items() if name not in ("seq", "t", "seconds")}
        for epoch in sorted(told)
    ]


def copy_of(run: RunDirectory, to: Path) -> RunDirectory:
    shutil.copytree(run.path, to, symlinks=True)
    return RunDirectory(to)
