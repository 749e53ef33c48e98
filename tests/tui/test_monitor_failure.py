"""The monitor of a run that failed, crashed or was deleted.

It shows the whole error, and offers nothing that can't be done.
"""

from __future__ import annotations

import re
import shutil

import pytest
from driving import drive, monitor, picture, shows, until
from monitor_logs import START, write_epoch, write_steps

from deeptune.runs import EventWriter, RunDirectory, write_json
from tui.widgets.monitor.failure import Failure


def letters(text: str) -> str:
    """Text without blanks and line ends: what it says, however it is wrapped."""
    return re.sub(r"\s+", "", text)


def says(app, text: str) -> bool:
    return letters(text) in letters(picture(app))


@pytest.mark.parametrize("size", [(80, 24), (160, 45)])
def test_the_first_page_of_a_failed_run_is_its_whole_error(failed, size):
    app = monitor(failed)

    async def steps(pilot):
        await shows(pilot, "✗ data error")
        assert says(app, "row 3 is not an image in a format that PIL opens, or its beginning is damaged")
        await pilot.press("end")
        await until(pilot, lambda: says(app, "damaged Repair them, or set data.on_bad_sample to leave them out."))
        assert says(app, "The end of the hint.")

    drive(app, steps, size=size)


def test_the_log_of_a_failed_run_tells_the_whole_error(failed):
    app = monitor(failed)

    async def steps(pilot):
        await pilot.press("4")
        await until(pilot, lambda: says(app, "The end of the hint."))
        await pilot.press("home")
        await shows(pilot, "the run failed: data.input: 8 of 48 samples")

    drive(app, steps)


def test_a_run_that_failed_after_some_epochs_has_its_error_above_its_curves(failed):
    failed.events.unlink()
    log = EventWriter(failed.events)
    log.record("run", id=failed.id, started=0, pid=1)
    log.record("start", **START)
    write_steps(log, *range(1, 11))
    write_epoch(log, 1, 0.5, 0.6)
    log.record("end", state="failed", message="no")
    app = monitor(failed)

    async def steps(pilot):
        await shows(pilot, "✗ data error")
        await shows(pilot, "loss  ━ train")

    drive(app, steps)


def test_a_crashed_run_tells_its_last_words_on_its_first_page_and_in_its_log(made):
    made.lock.touch()
    EventWriter(made.events).record("run", id=made.id, started=0, pid=1)
    made.console.write_text("CUDA error: the device was lost\n")
    app = monitor(made)

    async def steps(pilot):
        await shows(pilot, "✗ run crashed")
        assert "Its last output: CUDA error: the device was lost" in picture(app)
        assert says(app, f"deeptune resume {made.reference}")
        await pilot.press("4")
        await shows(pilot, "the run crashed: ")

    drive(app, steps)


def test_a_run_that_was_resumed_shows_no_error_any_more(failed):
    app = monitor(failed)

    async def steps(pilot):
        await shows(pilot, "✗ data error")
        write_json(failed.result, {"state": "done", "epochs": 3, "best": None, "test": {}, "seconds": 1.0})
        await shows(pilot, "✓ done")
        assert not app.screen.query_one(Failure).display

    drive(app, steps)


def test_results_of_a_run_that_failed_are_said_to_be_missing(failed):
    app = monitor(failed)

    async def steps(pilot):
        await pilot.press("5")
        await shows(pilot, "no results: it ended before it was scored")

    drive(app, steps)


def test_a_deleted_run_is_not_offered_to_be_resumed(finished_run: RunDirectory):
    finished_run.result.unlink()  # as of one that crashed
    finished_run.lock.touch()
    app = monitor(finished_run)

    async def steps(pilot):
        await shows(pilot, "r resumes it")
        shutil.rmtree(finished_run.path)
        await shows(pilot, "✗ deleted")
        assert "its folder is gone" in picture(app)
        await until(pilot, lambda: "resume" not in picture(app).lower())

    drive(app, steps)
