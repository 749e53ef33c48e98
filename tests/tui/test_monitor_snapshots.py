"""How the monitor looks, of runs made up of events. After a change that is meant: pytest --snapshot-update."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import NOW, until
from runners import holding

from deeptune.runs import RunDirectory, write_json, write_text
from tui.app import DeepTuneApp
from tui.options import Options

SIZES = [(60, 16), (80, 24), (120, 34), (160, 45)]
SPEC = '[data]\npath = "scans.parquet"\n\n[backbone]\nname = "resnet18"\n'
CLASSES = ["benign", "malignant", "[b]unsure[/b]"]
MATRIX = [[41, 3, 1], [5, 28, 0], [2, 4, 0]]
LOOKS = {"light": {"theme": "deeptune-light"}, "ascii": {"ascii": True}}


def events(steps: int, of: int) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """(seconds since the start, kind, content): 20 steps an epoch, two GPUs, val loss that rises after epoch 6."""
    yield 0, "run", {"id": "scans", "started": NOW, "pid": 1}
    for at, phase in enumerate(("data", "backbone", "train")):
        yield at, "phase", {"phase": phase}
    parameters = {"trainable": 11_180_103, "total": 11_180_103}
    yield 3, "start", {
        "backbone": "resnet18", "weights": "pretrained", "method": "full", "device": "cuda:0", "device_reason": "bf16",
        "steps": of, "metric": "val/loss", "rows": {"train": 640, "val": 84, "test": 84}, "parameters": parameters,
    }  # fmt: skip
    for step in range(1, steps + 1):
        epoch, place = (step - 1) // 20 + 1, (step - 1) % 20 + 1
        where = {"epoch": epoch, "epochs": of // 20}
        at, wave = 4 + 2 * step, math.sin(step * 1.7) * math.cos(step * 0.3)
        yield at, "step", {
            "step": step, "epoch_step": place, "epoch_steps": 20, "loss": 0.3 + math.exp(-step / 60) + 0.1 * wave,
            "learning_rate": 1e-3 * min(step / 20, 1) * (1 - step / of / 1.2), "gradient_norm": 2 + wave,
            "rate": 88.0 + wave, "waiting": 0.04 + 0.01 * wave, **where,
        }  # fmt: skip
        if step % 5 == 0:
            gpu = {"utilisation": 80 + int(15 * wave), "temperature": 61, "memory_gib": 10.2, "total_gib": 24.0}
            gpus = [gpu, {**gpu, "memory_gib": 3.0}]
            yield at, "sample", {"process_gib": 2.5, "free_gib": 51.0, "cpu_percent": 130.0, "gpus": gpus}
        if place == 20:
            val = {"loss": 0.4 + math.exp(-epoch / 3) + max(0, epoch - 6) * 0.08, "accuracy": 1 - 0.5**epoch}
            train = {"loss": 0.3 + math.exp(-epoch / 3)}
            yield at, "epoch", {"train": train, "val": val, "learning_rate": 1e-3, "best": epoch <= 6, **where}
            if epoch <= 6:
                yield at, "checkpoint", {"which": "best", "epoch": epoch, "metric": "val/loss", "value": val["loss"]}
            yield at, "checkpoint", {"which": "last", "epoch": epoch + 1, "step": step}
    if steps == of:
        yield 5 + 2 * steps, "end", {"state": "done"}


@pytest.fixture(autouse=True)
def _times_of_greenwich(monkeypatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def run_of(root: Path, steps: int, of: int) -> RunDirectory:
    run = RunDirectory(root / "scans-20260921-101500-abc123")
    run.control.mkdir(parents=True)
    write_text(run.spec, SPEC)
    write_json(run.run, {"started": NOW - 4 - 2 * steps})
    with run.events.open("w", encoding="utf-8") as file:
        for number, (at, kind, content) in enumerate(events(steps, of), start=1):
            moment = NOW - 12 - 2 * steps + at
            file.write(json.dumps({"v": 1, "seq": number, "t": moment, "kind": kind, **content}) + "\n")
    return run


@pytest.fixture
def ended(tmp_path, monkeypatch) -> RunDirectory:
    """A run that is done, and has told its metrics."""
    monkeypatch.chdir(tmp_path)
    run = run_of(tmp_path / "runs", 200, 200)
    best = {"epoch": 6, "metric": "val/loss", "value": 0.5353}
    test = {"loss": 0.4123, "accuracy": 0.8214, "macro_f1": 0.5655, "roc_auc": 0.871, "n": 84}
    write_json(run.result, {"state": "done", "best": best, "epochs": 10, "test": test, "seconds": 404.2})
    scores = [0.882, 0.824, 0.0]
    support = [sum(row) for row in MATRIX]
    keys = ("precision", "recall", "f1", "roc_auc")
    rows = [{"class": name, **dict.fromkeys(keys, score), "support": count}
            for name, score, count in zip(CLASSES, scores, support, strict=True)]  # fmt: skip
    write_json(run.metrics, {"test": {**test, "per_class": rows, "confusion_matrix": MATRIX}})
    run.lock.touch()
    return run


@pytest.fixture
def alive(tmp_path, monkeypatch) -> Iterator[RunDirectory]:
    """A run in its ninth epoch of ten."""
    monkeypatch.chdir(tmp_path)
    run = run_of(tmp_path / "runs", 172, 200)
    best = {"epoch": 6, "metric": "val/loss", "value": 0.5353}
    with holding(run, phase="train", step=172, steps=200, eta=61.0, best=best):
        yield run


def app(**options: Any) -> DeepTuneApp:
    run = Path("runs").absolute() / "scans-20260921-101500-abc123"
    return DeepTuneApp(Options(root=Path("runs"), **options), opens=("run", run), clock=lambda: NOW)


def on(*keys: str):
    """What to do before the picture: wait for the run to be read, then press keys."""

    async def act(pilot):
        await until(pilot, lambda: getattr(pilot.app.screen, "_caught_up", False))
        for key in keys:
            await pilot.press(key)
            await pilot.app.workers.wait_for_complete()
        for _ in range(3):
            await pilot.app.workers.wait_for_complete()
            await pilot.pause()

    return act


@pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
def test_a_live_run(snap_compare, alive, size):
    assert snap_compare(app(), terminal_size=size, run_before=on())


@pytest.mark.parametrize("page", ["2", "3", "4", "5"])
def test_pages_of_a_run_that_is_done(snap_compare, ended, page):
    assert snap_compare(app(), terminal_size=(80, 24), run_before=on(page))


@pytest.mark.parametrize("look", LOOKS)
def test_other_looks(snap_compare, alive, look):
    assert snap_compare(app(**LOOKS[look]), terminal_size=(80, 24), run_before=on("x", "l", "left", "shift+left"))


def test_without_colours(snap_compare, alive, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(app(color=False), terminal_size=(80, 24), run_before=on())


def test_the_results_of_a_large_terminal(snap_compare, ended):
    assert snap_compare(app(theme="deeptune-light"), terminal_size=(160, 45), run_before=on("5"))
