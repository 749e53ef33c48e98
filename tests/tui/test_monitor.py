"""The monitor on real runs: finished, live, killed, damaged, gone; with its keys, and with text that means harm."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import drive, monitor, picture, shows, until
from runners import holding, new_run, runner, step
from runners import until as wait_until
from textual.widgets import Input, OptionList

from deeptune.runs import EventWriter, RunDirectory, run_state, write_json
from tui.app import DeepTuneApp
from tui.options import Options
from tui.screens.ask import AskScreen
from tui.screens.copied import CopiedScreen
from tui.screens.monitor import MonitorScreen
from tui.widgets.chart import Chart

STEP = {"loss": 0.5, "learning_rate": 1e-3, "gradient_norm": 1.5, "rate": 88.0, "waiting": 0.25}
START = {
    "backbone": "resnet18", "weights": "random", "method": "full", "device": "cpu", "device_reason": "as asked",
    "steps": 100, "metric": "val/loss", "rows": {"train": 80, "val": 10, "test": 10},
    "parameters": {"trainable": 11, "total": 11},
}  # fmt: skip


def write_wrong(run: RunDirectory) -> None:
    """Make the first test row one that was predicted wrongly, and with the greatest confidence."""
    table = pq.read_table(run.predictions).to_pylist()
    table[0] |= {"truth": "nothing like it", "confidence": 0.99}
    pq.write_table(pa.Table.from_pylist(table), run.predictions)


def write_steps(log: EventWriter, *numbers: int, **values: Any) -> None:
    for number in numbers:
        place = {"step": number, "epoch": (number - 1) // 10 + 1, "epoch_step": (number - 1) % 10 + 1}
        log.record("step", **place, epoch_steps=10, epochs=10, **{**STEP, **values})


def write_epoch(log: EventWriter, number: int, train: float, val: float | None, **scores: float) -> None:
    log.record("epoch", epoch=number, epochs=10, train={"loss": train}, val={"loss": val, **scores}, best=False)


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


def test_a_run_that_is_killed_while_it_is_watched_is_told_as_crashed(tmp_path, pictures_parquet):
    run = new_run(tmp_path / "runs", pictures_parquet)
    with runner(run) as pid:
        wait_until(lambda: step(run) > 3)
        app = monitor(run)

        async def steps(pilot):
            await shows(pilot, "● running")
            os.kill(pid, signal.SIGKILL)
            await shows(pilot, "✗ crashed")
            await shows(pilot, "was killed (by hand or out of memory)")
            await pilot.press("5")
            await shows(pilot, "deeptune resume")

        drive(app, steps)
    app = monitor(run)

    async def again(pilot):
        await shows(pilot, "✗ crashed")
        await shows(pilot, "loss  ━ train")

    drive(app, again)


def test_losses_that_are_not_finite_leave_gaps_and_warnings_with_their_step(made):
    log = EventWriter(made.events)
    log.record("run", id=made.id, started=0, pid=1)
    log.record("phase", phase="train")
    log.record("start", **START)
    write_steps(log, *range(1, 11))
    write_steps(log, 11, loss=float("nan"))
    log.warning("the loss is nan at step 11: the step was skipped")
    write_steps(log, *range(12, 21))
    write_epoch(log, 1, 0.5, 0.6)
    write_epoch(log, 2, 0.5, float("nan"))
    app = monitor(made)
    with holding(made, phase="train"):

        async def steps(pilot):
            await shows(pilot, "! step 20: the val loss of epoch 2 is not finite")
            await pilot.press("4", "w")
            await shows(pilot, "! ")
            lines = [line for line in picture(app).split("\n") if "step was skipped" in line]
            assert len(lines) == 1
            assert "training" not in picture(app).split("\n")[7]

        drive(app, steps)


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


def test_overfitting_is_told_with_its_step(made):
    log = EventWriter(made.events)
    log.record("run", id=made.id, started=0, pid=1)
    log.record("start", **START)
    for number, (train, val) in enumerate([(1.0, 1.0), (0.8, 0.9), (0.6, 1.0), (0.5, 1.1), (0.4, 1.2)], start=1):
        write_steps(log, *range(number * 10 - 9, number * 10 + 1))
        write_epoch(log, number, train, val)
    app = monitor(made)

    async def steps(pilot):
        await shows(pilot, "! step 50: overfitting: for 3 epochs val loss is over 5% above its lowest")

    drive(app, steps, size=(120, 34))


def test_text_of_the_run_is_neither_markup_nor_an_escape(made):
    log = EventWriter(made.events)
    log.record("run", id=made.id, started=0, pid=1)
    log.record("start", **{**START, "backbone": "[red]\x1b[2Jevil"})
    log.record("message", message="[bold]kept[/bold] \x1b]0;title\x07 and [/nothing] \u202eback")
    made.console.write_text("[link=x]printed[/link]\x1b[31m red\r\n 50%|##\r100%|####\n")
    app = monitor(made)

    async def steps(pilot):
        await pilot.press("4")
        await shows(pilot, "[bold]kept[/bold] \\x1b]0;title\\x07 and [/nothing] \\u202eback")
        assert "[red]\\x1b[2Jevil" in picture(app)
        await pilot.press("c")
        await shows(pilot, "[link=x]printed[/link]\\x1b[31m red")
        assert "100%|####" in picture(app)
        assert " 50%|##" not in picture(app)
        await pilot.press("slash", *"100", "enter")
        await until(pilot, lambda: "printed" not in picture(app))
        assert "100%|####" in picture(app)
        await pilot.press("escape")
        await shows(pilot, "printed")
        assert app.screen.query_one("#log-filter", Input).value == ""

    drive(app, steps, size=(120, 30))


def test_what_is_damaged_or_gone_is_said_and_nothing_breaks(finished_run):
    with finished_run.events.open("ab") as file:
        file.write(b'{"v":1,"seq":1e99,"t":"x"}\n\xff\xfe half\n[]\n')
    finished_run.metrics.write_text("{ not json")
    finished_run.predictions.write_bytes(b"PAR1 not parquet")
    app = monitor(finished_run)

    async def steps(pilot):
        await shows(pilot, "3 damaged lines in events.jsonl")
        await pilot.press("5")
        await shows(pilot, "there is no metrics.json")
        await pilot.press("6")
        await shows(pilot, "no test row was predicted wrongly")
        shutil.rmtree(finished_run.path)
        await shows(pilot, "its folder is gone")
        for key in "123456":
            await pilot.press(key)
            await pilot.pause()

    drive(app, steps)


def test_the_data_of_an_example_that_has_gone_is_said(finished_run, pictures_parquet, tmp_path):
    write_wrong(finished_run)
    text = finished_run.spec.read_text()
    finished_run.spec.write_text(text.replace(str(pictures_parquet), str(tmp_path / "moved.parquet")))
    app = monitor(finished_run)

    async def steps(pilot):
        await pilot.press("6")
        await shows(pilot, "there is no file or")

    drive(app, steps)


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


def test_a_run_whose_folder_is_gone_offers_nothing_that_needs_it(finished_run):
    app = monitor(finished_run)

    async def steps(pilot):
        await shows(pilot, "✓ done")
        shutil.rmtree(finished_run.path)
        await shows(pilot, "its folder is gone")
        await pilot.press("5")
        await shows(pilot, "no results")
        assert "deeptune" not in picture(app).replace("DeepTune", "")
        for key in ("r", "p", "e", "n", "y"):
            assert key not in app.screen.active_bindings, key
        await pilot.press("n")
        await shows(pilot, "its folder is gone")

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
