"""How the list of runs and the app's own windows look. After a change that is meant: pytest --snapshot-update."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driving import NOW
from runners import holding

from deeptune.runs import RunDirectory, write_json, write_text
from tui.app import DeepTuneApp
from tui.options import Options

SPEC = '[data]\npath = "scans.parquet"\n\n[backbone]\nname = "resnet18"\n'


def run_of(root: Path, name: str, age: float, status: dict, result: dict | None = None) -> RunDirectory:
    """The files of a run that began `age` seconds ago."""
    run = RunDirectory(root / name)
    run.control.mkdir(parents=True)
    write_text(run.spec, SPEC)
    write_text(run.run, json.dumps({"started": NOW - age}))
    write_json(run.status, {"heartbeat": NOW, "task": "classification", **status})
    run.lock.touch()
    if result is not None:
        write_json(run.result, result)
    return run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Runs in every state that files alone can tell, and one that is alive."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    best = {"epoch": 7, "metric": "val/macro_f1", "value": 0.8731}
    test = {"loss": 0.4123, "accuracy": 0.8812, "macro_f1": 0.8655, "n": 400}
    done = {"state": "done", "best": best, "epochs": 10, "test": test, "seconds": 754.2}
    swin = {"backbone": "swin_t", "method": "lora"}
    run_of(root, "scans-20260921-101500-abc123", 7200, swin, done)
    run_of(
        root, "a-name-that-is-rather-long-for-a-narrow-terminal-20260920-235959-0f1e2d", 90_000,
        {"backbone": "bert-base-cased", "method": "full", "epoch": 2, "epochs": 5, "step": 40, "steps": 200},
        {"state": "failed", "message": "TrainingError: out of memory"},
    )  # fmt: skip
    run_of(
        root, "stopped-20260920-120000-aa11bb", 180_000,
        {"backbone": "gpt2", "method": "partial", "phase": "train", "epoch": 3, "epochs": 5, "step": 120, "steps": 200},
        {"state": "stopped", "message": "the run was stopped (asked)"},
    )  # fmt: skip
    run_of(root, "killed-20260919-120000-cc22dd", 260_000, {"backbone": "resnet50", "method": "full"})
    alive = run_of(root, "live-20260921-121200-dd33ee", 754, {})
    status = {"phase": "train", "epoch": 4, "epochs": 10, "step": 350, "steps": 1000, "best": best, **swin}
    with holding(alive, **status):
        yield root


def app(**options) -> DeepTuneApp:
    return DeepTuneApp(Options(root=Path("runs"), **options), clock=lambda: NOW)


async def settled(pilot):
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 34), (160, 45)], ids="{0[0]}x{0[1]}".format)
def test_runs(snap_compare, runs, size):
    assert snap_compare(app(), terminal_size=size, run_before=settled)


WINDOWS = {"help": "f1", "jump": "ctrl+o", "palette": "ctrl+p"}
LOOKS = {"light": {"theme": "deeptune-light"}, "ascii": {"ascii": True}, "terminal": {"theme": "terminal"}}


@pytest.mark.parametrize("look", LOOKS)
def test_runs_in_other_looks(snap_compare, runs, look):
    assert snap_compare(app(**LOOKS[look]), terminal_size=(80, 24), run_before=settled)


def test_runs_without_colours(snap_compare, runs, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(app(color=False), terminal_size=(80, 24), run_before=settled)


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_over_the_runs(snap_compare, runs, window):
    assert snap_compare(app(), terminal_size=(80, 24), press=[WINDOWS[window]], run_before=settled)
