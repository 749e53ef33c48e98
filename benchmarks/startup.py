"""Measures how long the command line and the terminal interface take to answer."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from benchmarks.lines import Measured, NotMeasured, Settings, line


@line("help", "`deeptune --help` over `python -c pass`", at_most=10)
def help_over_nothing(settings: Settings) -> Measured:
    """Return the medians of turns: each command once, then each again."""
    commands = {"help": ("-m", "deeptune", "--help"), "pass": ("-c", "pass")}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(4 if settings.quick else 21):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            if turn:  # the first reads files that are in memory from then on
                seconds[name].append(time.perf_counter() - started)
    ours, theirs = (statistics.median(seconds[name]) for name in commands)
    return Measured(ours / theirs, f"{1000 * ours:.0f} ms against {1000 * theirs:.0f} ms, medians of {turn}")


@line("tui", "`deeptune-tui`: seconds from its start to the first picture with the list of runs", at_most=1.0)
def first_picture(settings: Settings) -> Measured:
    """Return the median over starts on a pseudo-terminal of 80x24, beside 20 runs that are over."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        _make_runs(Path(folder), 20)
        for turn in range(2 if settings.quick else 8):
            took = _until_drawn(["-m", "tui", "--output", folder], b"run-019")
            if turn:
                seconds.append(took)
    return Measured(statistics.median(seconds), f"median of {turn}, {min(seconds):.2f} to {max(seconds):.2f}")


def _make_runs(root: Path, count: int) -> None:
    from deeptune.runs import RunDirectory, write_json, write_text

    for number in range(count):
        run = RunDirectory(root / f"run-{number:03}")
        run.control.mkdir(parents=True)
        write_text(run.spec, '[data]\npath = "a.parquet"\n[backbone]\nname = "resnet18"\n')
        write_json(run.run, {"started": 1.7e9 + number})
        write_json(run.status, {"state": "done", "backbone": "resnet18", "method": "partial"})
        write_json(run.result, {"state": "done", "epochs": 10})


def _until_drawn(arguments: list[str], words: bytes) -> float:
    """Return the seconds from the start of a Python on a terminal to these words on it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    variables = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=variables, start_new_session=True
    )
    os.close(theirs)
    drawn = b""
    try:
        while words not in drawn:
            if not select.select([ours], [], [], 30)[0]:
                raise NotMeasured("nothing was drawn within 30 s")
            drawn += os.read(ours, 65536)
        return time.perf_counter() - started
    finally:
        process.kill()
        process.wait()
        os.close(ours)


FIRST_STEP = """
name = "start"
[data]
path = "sample:openclipart7"
split = { train = 0.1, val = 0.1, test = 0.8 }
[backbone]
name = "resnet18"
weights = "random"
image_size = 32
[tuning]
method = "full"
[train]
epochs = 1
device = "cpu"
"""


@line("first-step", "start of a run's process to its first step, over importing torchvision and building the backbone")
def start_to_first_step(settings: Settings) -> Measured:
    """Return the medians of turns.

    The run checks 557 images and trains ResNet-18 at 32 pixels, so that a step takes no time.
    """
    bare = [sys.executable, "-c", "import torch, torchvision; torchvision.models.resnet18(weights=None)"]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2 if settings.quick else 6):
            started = time.perf_counter()
            subprocess.run(bare, check=True)
            seconds = time.perf_counter() - started
            first = _first_step(Path(folder))
            if turn:  # the first reads files that are in memory from then on
                ours.append(first)
                theirs.append(seconds)
    run, imports = statistics.median(ours), statistics.median(theirs)
    return Measured(run / imports, f"{run:.1f} s against {imports:.1f} s, medians of {turn}")


def _first_step(folder: Path) -> float:
    """Return the seconds from the start of a runner's process to the first step that it records."""
    from deeptune.runs import new_run_directory, read_records, write_text

    run = new_run_directory(folder, "start")
    write_text(run.spec, FIRST_STEP)
    command = [sys.executable, "-m", "deeptune.engine.runner", str(run.path)]
    environment = {**os.environ, "DEEPTUNE_CACHE": str(folder / "cache")}
    started = time.time()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        steps: list[float] = []
        while not steps and process.poll() is None:
            time.sleep(0.02)
            steps = [event["t"] for event in read_records(run.events) if event["kind"] == "step"]
        process.terminate()
    if not steps:
        raise NotMeasured(f"the run ended before its first step with exit code {process.returncode}")
    return float(steps[0] - started)
