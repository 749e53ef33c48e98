"""Measures what the terminal interface sends over the line, and how fast it opens a long run.

Bytes are counted at the other end of a pseudo-terminal.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import pty
import random
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.lines import Measured, NotMeasured, Settings, line
from deeptune.runs import EventWriter, RunDirectory, run_state, write_json, write_text

PATIENCE = 60.0  # seconds
SPEC = '[data]\npath = "a.parquet"\n[backbone]\nname = "resnet18"\n'
PER_EPOCH = 100  # steps


class Line:
    """`deeptune-tui` at the other end of a terminal of so many columns and rows."""

    def __init__(self, arguments: list[str], columns: int, rows: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        variables = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tui", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=variables,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *details: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def read(self, seconds: float) -> bytes:
        """Return all output of so many seconds."""
        deadline, read = time.monotonic() + seconds, b""
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._ours], [], [], left)[0]:
                read += os.read(self._ours, 65536)
        return read

    def until(self, words: str) -> float:
        """Read until these words come; the seconds that it took."""
        started, read = time.monotonic(), b""
        while words.encode() not in read:
            left = started + PATIENCE - time.monotonic()
            if left <= 0 or not select.select([self._ours], [], [], left)[0]:
                raise NotMeasured(f"{words!r} was not drawn within {PATIENCE:.0f} s")
            read += os.read(self._ours, 65536)
        return time.monotonic() - started

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())


@line("tui-chart", "monitor, 80x24: bytes sent for each new step, charts and times, mean", at_most=2000)
def chart_update(settings: Settings) -> Measured:
    return _updates(80, 24, 10 if settings.quick else 60)


@line("tui-dashboard", "monitor, 160x45: the same, with all its charts", at_most=6000)
def dashboard_update(settings: Settings) -> Measured:
    return _updates(160, 45, 10 if settings.quick else 60)


def _updates(columns: int, rows: int, count: int) -> Measured:
    """Count the bytes between one event and the next, of a run that continues from its step 300."""
    with tempfile.TemporaryDirectory() as folder, _alive(Path(folder)) as (run, log):
        for number in range(1, 301):
            _write_step(log, number)
        with Line(["--output", folder, str(run.path)], columns, rows) as terminal:
            terminal.until("★")
            terminal.read(2.0)
            sent = []
            for number in range(301, 301 + count):
                _write_step(log, number)
                _write_status(run, number)
                sent.append(len(terminal.read(0.75)))
    return Measured(statistics.mean(sent), f"{count} steps, median {statistics.median(sent):.0f}, most {max(sent)}")


@line("tui-idle", "monitor of a finished run: bytes a second while nothing changes", at_most=0)
def idle(settings: Settings) -> Measured:
    seconds = 5.0 if settings.quick else 20.0
    with tempfile.TemporaryDirectory() as folder:
        run = _finished(Path(folder), 1000)
        with Line(["--output", folder, str(run.path)], 80, 24) as terminal:
            terminal.until("★")
            terminal.read(3.0)
            sent = len(terminal.read(seconds))
    return Measured(sent / seconds, f"{sent} bytes in {seconds:.0f} s")


@line("tui-live", "monitor, 80x24: bytes a second while a ResNet-18 learns 32-pixel images", at_most=4000)
def live(settings: Settings) -> Measured:
    from deeptune.runs import new_run_directory
    from deeptune.runs.launch import start_runner
    from deeptune.spec import dump_spec
    from deeptune.spec.toml import validate

    seconds = 5.0 if settings.quick else 40.0
    train = {"epochs": 1000, "batch_size": 16, "device": "cpu", "workers": 0, "early_stopping": {"patience": 0}}
    spec = {
        "data": {"path": "sample:openclipart7"},
        "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
        "tuning": {"method": "full"},
        "train": train,
    }
    with tempfile.TemporaryDirectory() as folder:
        run = new_run_directory(Path(folder), "live")
        write_text(run.spec, dump_spec(validate(spec)))
        runner = start_runner(run)
        try:
            with Line(["--output", folder, str(run.path)], 80, 24) as terminal:
                terminal.until("★")
                terminal.read(2.0)
                before = run_state(run).status.get("step", 0)
                sent = len(terminal.read(seconds))
                steps = run_state(run).status.get("step", 0) - before
        finally:
            runner.kill()
            runner.wait()
    return Measured(sent / seconds, f"{sent:,} bytes in {seconds:.0f} s and {steps} steps")


@line("tui-open", "monitor: seconds from Enter to the curves of a finished run of 100,000 events", at_most=2.0)
def open_long_run(settings: Settings) -> Measured:
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        _finished(Path(folder), 1000 if settings.quick else 100_000)
        for _ in range(2 if settings.quick else 7):
            with Line(["--output", folder], 80, 24) as terminal:
                terminal.until("long")
                terminal.read(1.0)
                terminal.type("\r")
                seconds.append(terminal.until("★"))
    return Measured(statistics.median(seconds), f"median of {len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f}")


# Runs that are made up of events alone: what the monitor reads is the same.


@contextmanager
def _alive(root: Path) -> Iterator[tuple[RunDirectory, EventWriter]]:
    """Yield a run whose lock this process holds."""
    from deeptune.runs.lock import run_lock

    run = _directory(root)
    with run_lock(run):
        log = EventWriter(run.events)
        for kind, content in _opening(10_000):
            log.record(kind, **content)
        _write_status(run, 1)
        yield run, log


def _finished(root: Path, steps: int) -> RunDirectory:
    """Return a run of so many steps that ended two days ago.

    Written at once, as a writer's lines would take minutes.
    """
    run = _directory(root)
    began = time.time() - 2 * 86400 - steps / 10
    lines = [(began, kind, content) for kind, content in _opening(steps)]
    for number in range(1, steps + 1):
        lines += [(began + number / 10, kind, content) for kind, content in _step(number, steps)]
    with run.events.open("w", encoding="utf-8") as file:
        for sequence, (at, kind, content) in enumerate(lines, start=1):
            file.write(json.dumps({"v": 1, "seq": sequence, "t": round(at, 3), "kind": kind, **content}) + "\n")
    write_json(run.result, {"state": "done", "epochs": steps // PER_EPOCH, "test": {"accuracy": 0.9}})
    run.lock.touch()
    return run


def _directory(root: Path) -> RunDirectory:
    run = RunDirectory(root / "long-20260101-120000-abcdef")
    run.control.mkdir(parents=True)
    write_text(run.spec, SPEC)
    write_json(run.run, {"started": time.time() - 86400})
    return run


def _opening(steps: int) -> list[tuple[str, dict[str, Any]]]:
    start = {
        "backbone": "resnet18", "weights": "random", "method": "full", "device": "cpu", "device_reason": "as asked",
        "steps": steps, "metric": "val/loss", "rows": {"train": 1600, "val": 200, "test": 200},
        "parameters": {"trainable": 11_000_000, "total": 11_000_000},
    }  # fmt: skip
    return [("run", {"id": "long", "started": 0, "pid": os.getpid()}), ("phase", {"phase": "train"}), ("start", start)]


def _step(number: int, steps: int) -> list[tuple[str, dict[str, Any]]]:
    """Return the event of a step, and at the end of an epoch that of the epoch and of its checkpoint."""
    noise = random.Random(number)
    epoch, place = (number - 1) // PER_EPOCH + 1, (number - 1) % PER_EPOCH + 1
    where = {"epoch": epoch, "epochs": max(steps // PER_EPOCH, 1)}
    loss = 0.2 + 2 * math.exp(-3 * number / steps) * (1 + 0.2 * noise.gauss(0, 1))
    values = {
        "loss": loss, "learning_rate": 1e-3 * (1 - number / steps), "gradient_norm": 1 + noise.random(),
        "rate": 300 + noise.random(), "waiting": 0.02 + 0.01 * noise.random(), "memory": {"process_gib": 1.5},
    }  # fmt: skip
    events = [("step", {"step": number, "epoch_step": place, "epoch_steps": PER_EPOCH, **where, **values})]
    if place == PER_EPOCH:
        val = {"loss": 0.3 + 2 * math.exp(-3 * number / steps), "accuracy": 1 - math.exp(-number / steps)}
        events.append(("epoch", {**where, "train": {"loss": loss}, "val": val, "best": True}))
        best = {"which": "best", "epoch": epoch, "metric": "val/loss", "value": val["loss"]}
        events.append(("checkpoint", best))
    return events


def _write_step(log: EventWriter, number: int) -> None:
    for kind, content in _step(number, 10_000):
        log.record(kind, **content)


def _write_status(run: RunDirectory, number: int) -> None:
    write_json(
        run.status,
        {
            "state": "running", "phase": "train", "pid": os.getpid(), "heartbeat": time.time(), "step": number,
            "steps": 10_000, "eta": 2 * (10_000.0 - number),
        },
    )  # fmt: skip
