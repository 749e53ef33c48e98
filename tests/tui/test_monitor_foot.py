"""The keys at the foot of the monitor, and the words of its heading."""

from __future__ import annotations

import json

import pytest
from driving import drive, monitor, picture, shows, until

from deeptune.runs import EventWriter, write_json
from tui.screens.monitor import MonitorScreen


def foot(app) -> str:
    return picture(app).splitlines()[-1]


@pytest.mark.parametrize("word", ["done", "stopped", "failed"])
def test_scatter_new_run_and_copy_are_at_the_foot_of_every_page_at_80_columns(finished_run, word):
    if word != "done":
        result = json.loads(finished_run.result.read_text()) | {"state": word, "message": "a word", "error": None}
        write_json(finished_run.result, result)
    app = monitor(finished_run)

    async def steps(pilot):
        await shows(pilot, word)
        await until(pilot, lambda: ("p Use" if word == "done" else "r Resume") in foot(app))
        keys = ("esc Back", "e Embed", "n New", "y ", "f1 Help", "p Use" if word == "done" else "r Resume")
        for page in "123564":
            await pilot.press(page)
            await until(pilot, lambda: all(key in foot(app) for key in keys))
        await until(pilot, lambda: all(key in foot(app) for key in ("/ Filter", "w Warnings", "c Console")))
        await pilot.resize_terminal(60, 16)
        for page in "14":
            await pilot.press(page)
            await until(pilot, lambda: all(key in foot(app) for key in ("e Embed", "n New", "y Path", "f1 Help")))
        await pilot.resize_terminal(160, 45)
        await pilot.press("1")
        await until(pilot, lambda: "n New run from this spec" in foot(app))
        for key in ("p Use it", "e Embeddings", "y Copy path", "f Find metric", "a Smooth", "l Log y"):
            assert key in foot(app) or (key == "p Use it" and word != "done")

    drive(app, steps, size=(80, 24))


def test_stop_is_not_offered_while_a_finished_run_is_read(finished_run, monkeypatch):
    """Its state is not known before: a key that is pressed then must not ask to stop it."""
    monkeypatch.setattr(MonitorScreen, "_read", lambda _: None)  # it takes long
    app = monitor(finished_run)

    async def steps(pilot):
        await until(pilot, lambda: "f1 Help" in foot(app))
        assert "Stop" not in foot(app)
        await pilot.press("s")
        await pilot.pause()
        assert isinstance(app.screen, MonitorScreen)

    drive(app, steps)


def test_the_heading_names_metrics_by_their_titles(made):
    log = EventWriter(made.events)
    log.record("run", id=made.id, started=0, pid=1)
    log.record("phase", phase="train")
    log.record("epoch", epoch=1, epochs=10, train={"loss": 0.4}, val={"loss": 0.5, "r2": 0.25, "mae": 1.5}, best=True)
    status = {"state": "running", "phase": "train", "best": {"epoch": 1, "metric": "val/r2", "value": 0.25}}
    write_json(made.status, status)
    app = monitor(made)

    async def steps(pilot):
        await shows(pilot, "val R² 0.250")
        assert "val r2" not in picture(app)

    drive(app, steps, size=(120, 40))
