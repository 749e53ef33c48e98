"""The monitor of runs in trouble: killed, overfitting, damaged or gone, and with text that means harm."""

from __future__ import annotations

import os
import shutil
import signal

from driving import drive, monitor, picture, shows, until
from monitor_logs import START, write_epoch, write_steps, write_wrong
from runners import holding, new_run, runner, step
from runners import until as wait_until
from textual.widgets import Input

from deeptune.runs import EventWriter


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
