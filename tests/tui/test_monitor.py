"""The monitor on real runs, finished and live: its pages, charts and keys, and what is drawn again."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from driving import drive, monitor, picture, shows, until
from monitor_logs import START, STEP, write_steps, write_wrong
from runners import holding, new_run, runner, step
from runners import until as wait_until
from textual.widgets import OptionList

from deeptune.runs import EventWriter, run_state, write_json
from tui.app import DeepTuneApp
from tui.options import Options
from tui.screens.ask import AskScreen
from tui.screens.copied import CopiedScreen
from tui.screens.monitor import MonitorScreen
from tui.widgets.chart import Chart


def test_a_finished_run_has_its_end_its_curves_and_its_results(finished_run):
    write_wrong(finished_run)
    app = monitor(finished_run)

    async def steps(pilot):
        await shows(pilot, "✓ done")
        await shows(pilot, "★ best")
        for words in ("epochs  best val/", "test", "Accuracy", "loss  ━ train", "step ~0.6"):
            assert words in picture(app), words
        await pilot.press("2")
        await shows(pilot, "gradient norm")
        assert "waiting for data" in picture(app)
        await pilot.press("3")
        await shows(pilot, "rows/s")
        await pilot.press("4")
        await shows(pilot, "epoch 3/3")
        await pilot.press("5")
        await shows(pilot, "Balanced accuracy")
        shown = picture(app)
        assert "true" in shown
        assert "[b]green[/b]" in shown  # a class, and no markup
        assert "deeptune predict" in shown
        await pilot.press("6")
        await shows(pilot, "nothing like it → ")
        assert "99% sure" in picture(app)
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(app.screen, MonitorScreen)

    drive(app, steps)


def test_the_confusion_matrix_has_the_counts_of_metrics_json(finished_run):
    counts = json.loads(finished_run.metrics.read_text())["test"]["confusion_matrix"]
    app = monitor(finished_run)

    async def steps(pilot):
        await pilot.press("5")
        await shows(pilot, "Balanced accuracy")
        rows = re.findall(r"\d (?:\[b\]green\[/b\]|blue|red) +((?:[\d·]+ +){3})", picture(app))
        assert [[int(cell) for cell in row.replace("·", "0").split()] for row in rows] == counts

    drive(app, steps, size=(120, 34))


def test_keys_change_axis_scale_smoothing_metric_and_cursor(finished_run):
    app = monitor(finished_run)

    async def steps(pilot):
        await shows(pilot, "by step · smoothed 0.6")
        for key, words in [
            ("x", "by epoch · smoothed 0.6"),
            ("x", "by time · smoothed 0.6"),
            ("l", "by time · log y · smoothed 0.6"),
            ("a", "smoothed 0.9"),
            ("a", "smoothed 0.98"),
            ("x", "by step · log y"),
        ]:
            await pilot.press(key)
            await shows(pilot, words)
        await pilot.press("a")
        await until(pilot, lambda: "smoothed" not in picture(app))
        await pilot.press("m")
        await until(pilot, lambda: "━ train" not in picture(app))
        assert "━ val" in picture(app)
        await pilot.press("left")
        await shows(pilot, " at step")
        await pilot.press("left", "left", "shift+left")
        chart = app.screen.query_one("#first", Chart)
        place = chart.cursor
        await pilot.press("right")
        await until(pilot, lambda: chart.cursor > place)
        await pilot.press("escape")  # puts the cursor away, not the screen
        await until(pilot, lambda: chart.cursor is None)
        assert isinstance(app.screen, MonitorScreen)

    drive(app, steps, size=(110, 24))


def test_a_live_run_is_followed_stopped_and_resumed(tmp_path, pictures_parquet, monkeypatch):
    run = new_run(tmp_path / "runs", pictures_parquet)
    resumed = []
    with runner(run):
        wait_until(lambda: step(run) > 3)
        app = monitor(run)
        said: list[str] = []
        monkeypatch.setattr(app, "tell", lambda text, severity="": said.append(text))

        async def steps(pilot):
            await shows(pilot, "● running")
            await shows(pilot, "training · epoch")
            await until(pilot, lambda: app.screen.view.step)
            before = app.screen.view.step.step
            await until(pilot, lambda: app.screen.view.step.step > before + 2)
            await shows(pilot, "to go")
            await pilot.press("q")
            await until(pilot, lambda: not isinstance(app.screen, MonitorScreen))
            assert said == [f"the run continues; in a shell: deeptune attach {run.reference}"]
            assert run_state(run).word == "running"
            app.open_monitor(run)  # re-attached
            await until(pilot, lambda: isinstance(app.screen, MonitorScreen) and app.screen.view.step)
            await pilot.press("s")
            await shows(pilot, "Stop tiny-")
            await pilot.press("escape")
            await pilot.pause()
            assert run_state(run).word == "running"
            await pilot.press("s")
            await shows(pilot, "Stop tiny-")
            await pilot.press("enter")
            await shows(pilot, "■ stopped")
            await shows(pilot, "r resumes it")
            assert "asked for in the terminal interface" in run_state(run).detail
            monkeypatch.setattr("tui.app._resume", resumed.append)
            await pilot.press("r")
            await until(pilot, lambda: resumed)

        drive(app, steps)
    assert resumed == [run]
    assert run_state(run).word == "stopped"


def test_charts_that_a_run_has_no_value_for_are_left_out(made):
    log = EventWriter(made.events)
    log.record("run", id=made.id, started=0, pid=1)
    log.record("start", **START)
    exact = {name: value for name, value in STEP.items() if name not in ("learning_rate", "gradient_norm")}
    for number in range(1, 6):
        log.record("step", step=number, epoch=1, epoch_step=number, epoch_steps=10, epochs=10, **exact)
    app = monitor(made)

    async def steps(pilot):
        await shows(pilot, "rows/s")
        for words in ("learning rate", "gradient norm"):
            assert words not in picture(app)
        await pilot.press("2")
        await shows(pilot, "waiting for data")
        for words in ("learning rate", "gradient norm"):
            assert words not in picture(app)

    drive(app, steps, size=(160, 45))


def test_commands_and_paths_are_copied_by_enter(finished_run):
    app = monitor(finished_run)

    async def steps(pilot):
        await pilot.press("5")
        await shows(pilot, "deeptune predict")
        offers = app.screen.query_one("#next", OptionList)
        await until(pilot, lambda: offers.has_focus)  # what looks selected is what Enter takes
        for _ in range(3):
            await pilot.press("down")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, CopiedScreen))
        assert app.clipboard.startswith("deeptune predict ")

    drive(app, steps)


def test_nothing_is_drawn_while_nothing_changes(finished_run):
    app = DeepTuneApp(Options(root=finished_run.path.parent), opens=("run", finished_run.path), clock=lambda: 2e9)

    async def steps(pilot):
        await shows(pilot, "★ best")
        await pilot.pause(0.3)
        written: list[str] = []
        app._driver.write = written.append
        for _ in range(6):
            app.screen.look()
            await pilot.pause(0.1)
        assert written == []

    drive(app, steps)


def test_a_new_step_draws_little_of_the_screen_again(made):
    log = EventWriter(made.events)
    log.record("run", id=made.id, started=0, pid=1)
    log.record("phase", phase="train")
    log.record("start", **START)
    for number in range(1, 40):
        write_steps(log, number, loss=0.4 + 0.1 * (number % 5))
    app = DeepTuneApp(Options(root=made.path.parent), opens=("run", made.path), clock=lambda: 2e9)
    with holding(made, phase="train"):

        async def steps(pilot):
            await shows(pilot, "loss  ━ train")
            await pilot.pause(0.3)
            before = app.screen._compositor.render_strips()
            drawn: list[Any] = []
            chart = app.screen.query_one("#first", Chart)
            refresh = chart.refresh
            chart.refresh = lambda *regions, **options: drawn.extend(regions) or refresh(*regions, **options)
            write_steps(log, 40, loss=0.75)
            await until(pilot, lambda: app.screen.view.step.step == 40 and drawn)
            await pilot.pause(0.2)
            after = app.screen._compositor.render_strips()
            assert sum(region.area for region in drawn) < 0.15 * chart.size.area
            assert [strip.text for strip in before] != [strip.text for strip in after]

        drive(app, steps)


def test_the_heading_and_the_tabs_fill_the_room_that_they_get_after_they_were_told(finished_run):
    app = monitor(finished_run)

    async def steps(pilot):
        await shows(pilot, "done")
        assert "by step" not in picture(app)
        assert "val accuracy" not in picture(app)
        app.screen._draw = app.screen._draw_heading = lambda: None
        await pilot.resize_terminal(120, 34)
        await shows(pilot, "by step")
        await shows(pilot, "val accuracy")

    drive(app, steps, size=(60, 16))


@pytest.mark.parametrize("size", [(60, 16), (40, 10), (200, 60)])
def test_every_page_can_be_drawn_in_any_size(finished_run, size):
    app = monitor(finished_run)

    async def steps(pilot):
        await shows(pilot, "done")
        for key in "123456":
            await pilot.press(key)
            await pilot.pause(0.1)
            await app.workers.wait_for_complete()

    drive(app, steps, size=size)


def test_read_only_neither_stops_nor_resumes(tmp_path, pictures_parquet, monkeypatch):
    run = new_run(tmp_path / "runs", Path(pictures_parquet))
    EventWriter(run.events).record("run", id=run.id, started=0, pid=1)
    with holding(run):
        app = monitor(run, read_only=True)
        said: list[str] = []
        monkeypatch.setattr(app, "tell", lambda text, severity="": said.append(text))

        async def steps(pilot):
            await shows(pilot, "● running")
            await pilot.press("s", "r", "n")
            await pilot.pause(0.5)
            assert not isinstance(app.screen, AskScreen)
            assert not run.stop_request.exists()
            assert "Stop" not in picture(app)

        drive(app, steps)


def test_the_time_to_go_is_told_while_features_are_computed(made):
    log = EventWriter(made.events)
    log.record("run", id=made.id, started=0, pid=1)
    log.record("phase", phase="features")
    now = time.time()
    with holding(made, phase="features"):
        status = json.loads(made.status.read_text())
        counted = {**status, "progress": {"done": 100, "total": 1000}, "heartbeat": now - 10}
        write_json(made.status, counted)
        app = DeepTuneApp(Options(root=made.path.parent), opens=("run", made.path), clock=lambda: now)

        async def steps(pilot):
            await shows(pilot, "100/1,000")
            write_json(made.status, {**counted, "progress": {"done": 300, "total": 1000}, "heartbeat": now})
            await shows(pilot, "about 0:35 to go")

        drive(app, steps)


def test_no_row_is_said_to_be_right_before_the_predictions_are_read(finished_run):
    app = monitor(finished_run)

    async def steps(pilot):
        await shows(pilot, "✓ done")
        screen = app.screen
        screen._follower.wanted = set()
        screen._want = lambda: None  # the predictions are never read
        await pilot.press("6")
        await shows(pilot, "reading the predictions")
        assert "no test row was predicted wrongly" not in picture(app)

    drive(app, steps)
