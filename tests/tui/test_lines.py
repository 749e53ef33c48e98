"""Lines are as high as what they show."""

from __future__ import annotations

from driving import drive
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll

from tui.widgets.lines import Lines


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Lines()


def test_the_height_is_that_of_the_last_rows_though_others_were_laid_out_in_between():
    app = Shown()

    async def steps(pilot):
        lines = app.query_one(Lines)
        lines.show([[("a", "label")]] * 7)
        app.query_one(VerticalScroll)._clear_arrangement_cache()  # what a widget beside it may ask for,
        app.screen._refresh_layout()  # before this one is idle
        lines.show([[("b", "label")]] * 5)
        await pilot.pause(0.1)
        assert lines.size.height == 5

    drive(app, steps)
