"""Lines are as high as what they show, and as wide as their room."""

from __future__ import annotations

from driving import drive, picture
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll

from deeptune.runs import RunDirectory
from deeptune.runs.events import SampleEvent
from deeptune.show.chart import PLAIN
from deeptune.show.view import View
from tui.widgets.monitor.machine import Machine
from tui.widgets.styled_lines import Lines


class Shown(App[None]):
    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self.lines = lines

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield self.lines


def test_the_height_is_that_of_the_last_rows_though_others_were_laid_out_in_between():
    app = Shown(Lines())

    async def steps(pilot):
        app.lines.show([[("a", "label")]] * 7)
        app.query_one(VerticalScroll)._clear_arrangement_cache()  # what a widget beside it may ask for,
        app.screen._refresh_layout()  # before this one is idle
        app.lines.show([[("b", "label")]] * 5)
        await pilot.pause(0.1)
        assert app.lines.size.height == 5

    drive(app, steps)


def test_the_newest_measurement_is_in_sight_when_a_terminal_becomes_narrower(tmp_path):
    app, view = Shown(Machine()), View(RunDirectory(tmp_path))
    for second in range(60):
        busy = 100.0 if second > 50 else 10.0
        view.take(SampleEvent(None, None, busy, t=second))

    async def steps(pilot):
        app.lines.tell(view, PLAIN)
        await pilot.pause(0.1)
        assert picture(app).splitlines()[0].rstrip().endswith("███")
        await pilot.resize_terminal(60, 24)
        await pilot.pause(0.1)
        assert picture(app).splitlines()[0].rstrip().endswith("███")

    drive(app, steps, size=(120, 24))
