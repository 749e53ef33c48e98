"""The widget that draws images."""

from __future__ import annotations

import threading

import pytest
from driving import drive, picture, until
from pictures import png
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from deeptune.show import picture as drawing
from tui.app import DeepTuneApp
from tui.options import Options
from tui.widgets.picture import Picture


class Shown(Screen[None]):
    CSS = "#fixed { width: 10; height: 4; } #scroll { height: 10; }"

    def compose(self) -> ComposeResult:
        yield Picture(id="fixed")
        with VerticalScroll(id="scroll"):
            yield Picture(id="auto", rows=6)
            yield Static("below", id="below")


def shown(steps, tmp_path, **options):
    app = DeepTuneApp(Options(root=tmp_path, **options))

    async def first(pilot):
        screen = Shown()
        app.push_screen(screen)
        await until(pilot, lambda: screen.is_mounted and screen.query("#below"))
        await steps(pilot, screen.query_one("#fixed", Picture), screen.query_one("#auto", Picture))

    drive(app, first, size=(40, 20))


def test_an_image_takes_its_room_and_what_follows_makes_way(tmp_path):
    async def steps(pilot, fixed, auto):
        below = pilot.app.screen.query_one("#below")
        assert below.region.y == auto.region.y
        auto.show(png(40, 20))
        await until(pilot, lambda: auto.size.height == 6)
        assert below.region.y == auto.region.y + 6
        cells = auto.render_line(0)
        red = [segment for segment in cells if segment.style.bgcolor.triplet == (200, 30, 30)]
        assert sum(len(segment.text) for segment in red) == 24  # 40:20 in 6 rows of two pixels
        auto.show(None)
        await until(pilot, lambda: below.region.y == auto.region.y)
        fixed.show(png(5, 5, (0, 0, 9)))
        await until(pilot, lambda: fixed.render_line(3)._segments[0].style.bgcolor.triplet == (0, 0, 9))

    shown(steps, tmp_path)


@pytest.mark.parametrize("options", [{"ascii": True}, {"color": False}, {"graphics": "ascii"}])
def test_without_colours_an_image_is_of_ascii(tmp_path, options):
    async def steps(pilot, fixed, auto):
        fixed.show(png(10, 8, (255, 255, 255)))
        await until(pilot, lambda: "@@@@@@@@" in picture(pilot.app))
        pilot.app.theme = "deeptune-light"  # white is not ink on white paper
        await until(pilot, lambda: "@" not in picture(pilot.app))

    shown(steps, tmp_path, **options)


def test_what_is_no_image_is_told_in_a_line_without_its_escapes(tmp_path):
    async def steps(pilot, fixed, auto):
        auto.show(b"\x1b[31mno image")
        await until(pilot, lambda: "the image is not an image" in picture(pilot.app))
        assert "\x1b" not in picture(pilot.app)
        assert auto.size.height == 1

    shown(steps, tmp_path)


def test_images_are_drawn_in_threads_and_the_last_wish_wins(tmp_path, monkeypatch):
    slow, went_on = threading.Event(), threading.Event()
    draw = drawing.draw

    def waiting(data, *room):
        assert threading.current_thread() is not threading.main_thread()
        if data == b"slow":
            slow.wait(20)
            went_on.set()
            data = png(4, 4, (1, 1, 1))
        return draw(data, *room)

    monkeypatch.setattr(drawing, "draw", waiting)

    async def steps(pilot, fixed, auto):
        fixed.show(b"slow")
        await pilot.pause()
        fixed.show(png(4, 4, (2, 2, 2)))
        await until(pilot, lambda: fixed.render_line(0)._segments[0].style.bgcolor.triplet == (2, 2, 2))
        slow.set()
        await until(pilot, went_on.is_set)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        assert fixed.render_line(0)._segments[0].style.bgcolor.triplet == (2, 2, 2)

    shown(steps, tmp_path)


def test_an_image_is_drawn_anew_for_another_room_and_no_room_draws_nothing(tmp_path):
    async def steps(pilot, fixed, auto):
        fixed.show(png(4, 4, (1, 1, 1)))
        await until(pilot, lambda: len(fixed._rows) == 4)
        fixed.styles.height = 2
        await until(pilot, lambda: len(fixed._rows) == 2)
        fixed.styles.height = 0
        await pilot.pause()
        fixed.show(png(4, 4, (3, 3, 3)))
        await pilot.pause()
        fixed.styles.height = 3
        await until(pilot, lambda: len(fixed._rows) == 3)

    shown(steps, tmp_path)
