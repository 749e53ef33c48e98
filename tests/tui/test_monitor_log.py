"""The page of the log: lines wrap, and what is not shown is said, with the way to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from driving import drive, monitor, picture, shows, until
from monitor_logs import START
from runners import holding

from deeptune.runs import EventWriter, RunDirectory
from tui.widgets.monitor import log, printed
from tui.widgets.styled_lines import wrapped


@pytest.fixture
def logged(made: RunDirectory) -> Iterator[EventWriter]:
    """The log of a run that is at work."""
    writer = EventWriter(made.events)
    writer.record("run", id=made.id, started=0, pid=1)
    writer.record("start", **START)
    with holding(made):
        yield writer


def test_wrapped_lines_keep_every_word_and_hang_below_the_first():
    text = "12:00:00  " + " ".join(f"word{number}" for number in range(30))
    lines = wrapped(text, 40, 10)
    assert all(len(line) <= 40 for line in lines)
    assert all(line.startswith(" " * 10) for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())


def test_a_word_that_is_wider_than_the_line_and_wide_characters_are_cut_into_parts():
    assert "".join(wrapped("/" + "x" * 100, 40)) == "/" + "x" * 100
    assert wrapped("日本語" * 10, 40) == ("日本語" * 6 + "日本", "語" + "日本語" * 3)


def test_long_lines_of_the_log_are_shown_to_their_end(made, logged):
    logged.record("message", message="a long message " + "and more of it " * 20 + "which ends HERE.")
    app = monitor(made)

    async def steps(pilot):
        await pilot.press("4")
        await shows(pilot, "HERE.")

    drive(app, steps)


def test_long_lines_of_the_console_are_shown_to_their_end(made, logged):
    made.console.write_text("a traceback " + "with a long line " * 20 + "which ends HERE.\n")
    app = monitor(made)

    async def steps(pilot):
        await pilot.press("4", "c")
        await shows(pilot, "HERE.")

    drive(app, steps)


def test_the_console_says_how_much_of_it_is_shown_and_reads_the_rest(made, logged, monkeypatch):
    monkeypatch.setattr(printed, "MIN_TAIL", 2_000)
    made.console.write_text("".join(f"line number {number:03}\n" for number in range(400)))
    app = monitor(made)

    async def steps(pilot):
        await pilot.press("4", "c")
        await shows(pilot, "last 124 of 400 lines of console.log")
        await shows(pilot, "line number 399")
        await pilot.press("home")
        await shows(pilot, "line number 276")
        await pilot.press("home")
        await shows(pilot, "line number 000")
        await until(pilot, lambda: "of console.log:" not in picture(app))

    drive(app, steps)


def test_lines_of_a_console_that_grows_are_counted_once_each(tmp_path, monkeypatch):
    monkeypatch.setattr(printed, "MIN_TAIL", 100)
    path = tmp_path / "console.log"
    reader = printed.ConsoleReader(path)
    assert reader.read() == printed.Printed([], 0)
    with path.open("w") as file:
        for number in range(300):
            file.write(f"line {number}\n\n" if number % 3 else f"\r 1%\rline {number}")
            file.flush()
            if number % 50 == 0:
                assert reader.read().total == number - number // 3 + (number % 3 == 0)
    found = reader.read()
    assert found.total == 200
    assert found.lines[-1].text == "line 299"


def test_a_filter_without_hits_says_so_and_how_to_clear_it(made, logged):
    app = monitor(made)

    async def steps(pilot):
        await pilot.press("4")
        await shows(pilot, "resnet18")
        await pilot.press("slash", *"zebra", "enter")
        await shows(pilot, "no line has 'zebra': Escape clears the filter")
        await pilot.press("escape")
        await shows(pilot, "resnet18")

    drive(app, steps)


def test_a_console_that_is_still_being_read_is_not_called_empty(made, logged, monkeypatch):
    made.console.write_text("a line\n")
    may_read, read = threading.Event(), printed.ConsoleReader.read
    monkeypatch.setattr(printed.ConsoleReader, "read", lambda self: may_read.wait(60) and read(self))
    app = monitor(made)

    async def steps(pilot):
        try:
            await pilot.press("4", "c")
            await shows(pilot, "reading console.log")
            assert "is empty" not in picture(app)
        finally:
            may_read.set()
        await shows(pilot, "a line")
        assert "reading console.log" not in picture(app)

    drive(app, steps)


def test_no_warnings_and_an_empty_console_are_said(made, logged):
    made.console.write_text("")
    app = monitor(made)

    async def steps(pilot):
        await pilot.press("4", "w")
        await shows(pilot, "no warnings: w shows every line")
        await pilot.press("w", "c")
        await shows(pilot, "console.log is empty")

    drive(app, steps)


def test_a_log_that_is_longer_than_what_is_kept_says_so(made, logged, monkeypatch):
    monkeypatch.setattr(log, "MAX_LINES", 50)
    for number in range(80):
        logged.record("message", message=f"message {number}")
    app = monitor(made)

    async def steps(pilot):
        await pilot.press("4")
        await shows(pilot, f"last 50 of 81 lines; all of them: deeptune logs {made.reference}")

    drive(app, steps, size=(200, 30))
