"""What is sent for a part of a line is what Textual would send for it, in fewer bytes."""

from __future__ import annotations

import pyte
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.compositor import in_few_bytes

STYLES = [
    None, Style(color="red"), Style(color="blue", bgcolor="white"), Style(color="#5aa9e6", bgcolor="#11161c"),
    Style(color="#f2b05e", bgcolor="#11161c"), Style(bgcolor="#11161c"), Style(bold=True, color="#f2b05e"),
    Style(reverse=True, color="green"), Style(underline=True, bgcolor="#11161c"), Style(dim=True), Style(bold=False),
]  # fmt: skip


def cells(sent: str) -> list[object]:
    screen = pyte.Screen(60, 1)
    pyte.Stream(screen).feed(sent)
    return [screen.buffer[0][x] for x in range(60)]


def inked(cell: object) -> object:
    """A cell as it is seen: of a blank only the ground, and what is drawn through it."""
    blank = cell.data == " " and not cell.reverse and not cell.underscore
    return cell._replace(fg="", bold=False) if blank else cell


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(["a", "bc", " ", "   ", "⣿"]), st.sampled_from(STYLES)), max_size=12))
def test_a_terminal_shows_the_same(pieces: list[tuple[str, Style | None]]) -> None:
    strip = Strip([Segment(text, style) for text, style in pieces])
    whole = "".join(
        style.render(text, color_system=ColorSystem.TRUECOLOR) if style else text for text, style, _ in strip
    )
    sent = in_few_bytes(strip, ColorSystem.TRUECOLOR)
    assert [inked(cell) for cell in cells(sent)] == [inked(cell) for cell in cells(whole)]


def test_a_change_of_ink_alone_costs_its_code_alone() -> None:
    strip = Strip([Segment("a", STYLES[3]), Segment("  ", STYLES[4]), Segment("b", STYLES[4])])
    sent = in_few_bytes(strip, ColorSystem.TRUECOLOR)
    assert sent == "\x1b[0;38;2;90;169;230;48;2;17;22;28ma  \x1b[38;2;242;176;94mb\x1b[0m"


def test_a_terminal_of_fewer_colours_is_sent_these() -> None:
    strip = Strip([Segment("a", Style(color="#5aa9e6")), Segment("b", Style(color="#f2b05e"))])
    assert in_few_bytes(strip, ColorSystem.EIGHT_BIT) == "\x1b[0;38;5;74ma\x1b[38;5;215mb\x1b[0m"
