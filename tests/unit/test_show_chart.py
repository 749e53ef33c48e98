"""Charts against brute force, and whatever a run may hand them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deeptune.show.chart import BRAILLE, Chart, ChartGlyphs, Drawing, draw, nearest, spark
from deeptune.show.scale import axis_range, log_ticks, nice_ticks, tick_labels, time_labels, time_ticks
from deeptune.show.series import Series, column, decimate, smooth

ASCII = ChartGlyphs(ascii=True)
values = st.one_of(st.none(), st.just(math.nan), st.floats(-1e6, 1e6), st.sampled_from([1e300, -1e300, math.inf, 0.0]))


def series(y: list[float | None], x: list[float] | None = None, **options: object) -> Series:
    x = list(range(len(y))) if x is None else x
    return Series("loss", column(x), column(y), "train", **options)  # type: ignore[arg-type]


def plot(drawing: Drawing) -> list[str]:
    """The plot's rows as text, without the legend and the axes."""
    rows = ["".join(text for text, _ in row) for row in drawing.rows[1:-2]]
    return [row[drawing.left :] for row in rows]


def dots(drawing: Drawing) -> set[tuple[int, int]]:
    """(column, row) of each dot that is drawn, counted from the top left."""
    bits = {(0, 0): 1, (0, 1): 2, (0, 2): 4, (0, 3): 64, (1, 0): 8, (1, 1): 16, (1, 2): 32, (1, 3): 128}
    return {
        (2 * cell + side, 4 * row + down)
        for row, text in enumerate(plot(drawing))
        for cell, character in enumerate(text)
        for (side, down), bit in bits.items()
        if character != " " and (ord(character) - BRAILLE) & bit
    }


@settings(deadline=None)
@given(st.lists(values, min_size=1, max_size=300), st.integers(1, 60), st.booleans())
def test_each_column_keeps_its_lowest_and_highest_value(y: list[float | None], columns: int, log: bool) -> None:
    line = series(y)
    found = decimate(line, (0.0, max(len(y) - 1.0, 1.0)), columns, log=log)
    width = max(len(y) - 1.0, 1.0) / max(columns - 1, 1)
    expected: list[list[float]] = [[] for _ in range(columns)]
    for x, value in enumerate(line.y):
        if math.isfinite(value) and not (log and value <= 0):
            place = next((p for p in range(columns - 1) if x < (p + 0.5) * width), columns - 1)
            expected[place].append(value)
    for span, inside in zip(found, expected, strict=True):
        assert (span is None) == (not inside)
        if span is not None:
            assert (span.low, span.high) == (min(inside), max(inside))
            assert (line.y[span.first], line.y[span.last]) == (inside[0], inside[-1])


@pytest.mark.parametrize("width", [20, 37, 80, 160])
@pytest.mark.parametrize("place", [0, 1, 4321, 50_000, 99_998, 99_999])
def test_no_spike_is_lost_at_any_width(width: int, place: int) -> None:
    y: list[float | None] = [0.0] * 100_000
    y[place] = 1.0
    drawing = draw(Chart([series(y)]), width, 10)
    top = {at for at, row in dots(drawing) if row == 0}
    columns = 2 * drawing.cells - 1
    assert top == {math.ceil(place / 99_999 * columns - 0.5)} or top == {round(place / 99_999 * columns)}


def test_dots_are_where_the_line_is() -> None:
    drawing = draw(Chart([series([0.0, 1.0], [0.0, 100.0])]), 44, 14)
    rows, columns = 4 * 11 - 1, 2 * drawing.cells - 1
    drawn = dots(drawing)
    for at in range(columns + 1):
        down = [row for there, row in drawn if there == at]
        assert min(abs(row - rows * (1 - at / columns)) for row in down) <= 0.5
    assert len(drawn) < 2 * (rows + columns)  # a line, no area


def test_a_gap_is_left_open_and_the_points_beside_it_are_not_joined() -> None:
    y = [1.0] * 10 + [None] * 10 + [2.0] * 10 + [math.nan] + [1.0] * 9
    drawing = draw(Chart([series(y)]), 86, 12)
    columns = {at for at, _ in dots(drawing)}
    per_point = (2 * drawing.cells - 1) / 39
    assert not [at for at in columns if 9.6 * per_point < at < 19.4 * per_point]
    assert not [at for at in columns if 29.6 * per_point < at < 30.4 * per_point]
    assert [at for at in columns if at < 9 * per_point]


@settings(deadline=None)
@given(
    st.lists(values, max_size=40),
    st.lists(values, max_size=12),
    st.integers(1, 90),
    st.integers(1, 30),
    st.booleans(),
    st.booleans(),
    st.sampled_from([ChartGlyphs(), ChartGlyphs(ascii=True), ChartGlyphs(mono=True)]),
    st.sampled_from(["step", "epoch", "time"]),
    st.one_of(st.none(), st.floats(-10, 50)),
)
@example([1.7e308, -1.7e308], [], 80, 20, False, True, ChartGlyphs(), "step", None)
@example([5e-324, 0.0], [], 80, 20, True, True, ChartGlyphs(), "step", 0.0)
@example([1e300], [None], 80, 20, True, True, ChartGlyphs(), "time", 0.0)
def test_any_values_give_rows_of_the_size_that_was_asked_for(
    first: list[float | None],
    second: list[float | None],
    width: int,
    height: int,
    log: bool,
    growing: bool,
    glyphs: ChartGlyphs,
    unit: str,
    cursor: float | None,
) -> None:
    both = [series(first), series(second, sign="o", mark=len(second) - 1 if second else None)]
    drawing = draw(Chart(both, unit=unit, log=log, title="loss", growing=growing), width, height, glyphs, cursor=cursor)
    assert len(drawing.rows) == height
    for row in drawing.rows:
        text = "".join(text for text, _ in row)
        assert len(text) == width
        assert text.isprintable()
        assert text.isascii() or not glyphs.ascii


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12), st.integers(1, 12), st.booleans())
def test_ticks_are_nice_and_inside(low: float, span: float, most: int, whole: bool) -> None:
    low, high = axis_range(low, low + span)
    ticks = nice_ticks(low, high, most, whole=whole)
    assert len(ticks) <= most
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(set(ticks))
    steps = [b - a for a, b in pairwise(ticks)]
    if steps:
        inner = steps[len(steps) // 2]
        mantissa = inner / 10 ** math.floor(math.log10(inner * 1.0001))
        assert min(abs(mantissa - nice) for nice in (1, 2, 5, 10)) < 1e-2
        assert steps == pytest.approx([inner] * len(steps), rel=1e-3)
        assert not whole or inner > 0.99


def test_there_are_ticks_enough_to_read_a_value_by() -> None:
    for low, high in [(0, 1), (0.1, 0.9), (2.3, 2.31), (-5, 5), (0, 123456), (1e-7, 9e-7), (99.2, 101.7)]:
        assert len(nice_ticks(low, high, 5)) >= 2
        assert len(set(tick_labels(nice_ticks(low, high, 5)))) == len(nice_ticks(low, high, 5))


@given(st.floats(-300, 300), st.floats(0.01, 300), st.integers(2, 12))
def test_log_ticks_are_inside(exponent: float, decades: float, most: int) -> None:
    low, high = 10**exponent, 10 ** min(exponent + decades, 305)
    if low < high:
        ticks = log_ticks(*axis_range(low, high, log=True), most)
        assert len(ticks) <= most
        assert ticks == sorted(set(ticks))
        assert all(low * 0.49 <= tick <= high * 2.01 for tick in ticks)


def test_a_log_axis_has_its_powers_at_equal_distances() -> None:
    assert log_ticks(1e-4, 1e2, 10) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100])
    assert log_ticks(0.15, 1.4, 6) == pytest.approx([0.2, 0.5, 1.0])
    drawing = draw(Chart([series([1000.0, 100.0, 10.0, 1.0])], log=True), 50, 19)
    rows = [number for number, row in enumerate(drawing.rows) if "┤" in "".join(text for text, _ in row)]
    assert [b - a for a, b in pairwise(rows)] == [5, 5, 5]
    columns = 2 * drawing.cells - 1
    on_the_line = [row - 63 * at / columns for at, row in dots(drawing)]  # a straight one, in decades
    assert max(on_the_line) < 1.6
    assert min(on_the_line) > -1.6


def test_labels() -> None:
    assert tick_labels([0.0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
    assert tick_labels([0, 20_000, 40_000]) == ["0", "20k", "40k"]
    assert tick_labels([0, 2_500_000, 5_000_000, 1e7]) == ["0", "2.5M", "5M", "10M"]
    assert tick_labels([0, 1e-5, 2e-5]) == ["0", "1e-05", "2e-05"]
    assert tick_labels([0, 5e-4]) == ["0.0000", "0.0005"]
    assert tick_labels([0.01, 0.1, 1, 10]) == ["0.01", "0.1", "1", "10"]
    assert tick_labels([]) == []
    assert time_labels([0, 45, 150, 3600, 12_600, 172_800]) == ["0s", "45s", "2:30", "1h", "3h30", "2d"]
    assert time_ticks(0, 100, 5) == [0, 30, 60, 90]
    assert time_ticks(0, 90_000, 5) == [0, 21600, 43200, 64800, 86400]


def test_a_growing_chart_mostly_stays_as_it_is_when_a_point_comes() -> None:
    y: list[float | None] = [2 - 0.003 * at + 0.1 * (at % 3) for at in range(300)]
    moved = {True: 0, False: 0}
    for growing in moved:
        before: list[str] = []
        for count in range(200, 300):
            rows = plot(draw(Chart([series(y[:count])], growing=growing), 78, 16))
            pairs = zip("".join(rows), "".join(before), strict=False)
            moved[growing] += sum(new != old for new, old in pairs)
            before = rows
    assert moved[True] < moved[False] / 4


def test_smoothing_is_corrected_for_its_start_and_keeps_gaps() -> None:
    assert list(smooth([3.0] * 5, 0.9)) == pytest.approx([3.0] * 5)  # without the correction: 0.3, 0.57, …
    smoothed = smooth([1.0, math.nan, 2.0, 4.0], 0.5)
    assert math.isnan(smoothed[1])
    # By hand: (1·¼ + 2·½·…): weights of the past halve with each value that is there.
    assert [smoothed[0], smoothed[2], smoothed[3]] == pytest.approx([1.0, (1 + 2 * 2) / 3, (1 + 2 * 2 + 4 * 4) / 7])
    assert list(smooth([1.0, 5.0, 2.0], 0.0)) == [1.0, 5.0, 2.0]


def test_the_legend_has_the_last_values_the_best_one_and_what_is_at_the_cursor() -> None:
    train = series([4.0, 3.0, 2.0, 1.0])
    val = Series("val", column([0, 1, 2, 3]), column([4.0, 2.5, 2.25, 3.0]), "val", "o", mark=2)
    raw = Series("raw", column([0, 3]), column([9.0, 9.0]), "train-raw", quiet=True)
    chart = Chart([raw, train, val], unit="epoch", title="loss")
    legend = "".join(text for text, _ in draw(chart, 80, 12).rows[0]).rstrip()
    assert legend == "loss  ━ loss 1.000  ━ val 3.000  ★ best 2.250 at epoch 2"
    legend = "".join(text for text, _ in draw(chart, 80, 12, ASCII, cursor=1.2).rows[0]).rstrip()
    assert legend == "loss at epoch 1.2  - loss 3.000  o val 2.500"


def test_the_cursor_and_the_best_epoch_are_where_they_belong() -> None:
    chart = Chart([series([4.0, 3.0, 1.0, 3.0, 4.0], mark=2)])
    drawing = draw(chart, 45, 12, cursor=1.0)
    rows = plot(drawing)
    assert drawing.cell_at(drawing.x_at(7)) == 7
    assert all(row[drawing.cell_at(1.0)] != " " for row in rows)
    assert rows[-1][drawing.cell_at(2.0)] == "★"
    assert sum(row.count("★") for row in rows) == 1


def test_without_colours_series_are_told_by_their_signs() -> None:
    both = [series([3.0, 2.0, 1.0]), series([1.0, 2.0, 3.0], sign="o")]
    assert "o" in "".join(plot(draw(Chart(both), 60, 12, ChartGlyphs(mono=True))))
    assert "o" not in "".join(plot(draw(Chart(both), 60, 12)))
    drawn = "".join(plot(draw(Chart(both), 60, 12, ASCII)))
    assert set(drawn) <= set(" .':o")
    assert {"o", ":"} < set(drawn)


@pytest.mark.parametrize("glyphs", [ChartGlyphs(), ChartGlyphs(mono=True), ASCII])
@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_curve_hides_another_that_is_the_same(glyphs: ChartGlyphs, width: int) -> None:
    x, y = column([0, 1, 2]), column([3.0, 2.0, 1.5])
    series = [
        Series(name, x, y, style, sign)
        for name, style, sign in [("A", "1st", "o"), ("B", "2nd", "x"), ("C", "3rd", "v")]
    ]
    beneath = Series("raw", x, y, "raw", quiet=True)
    rows = draw(Chart([*series, beneath]), width, 20, glyphs).rows[1:-2]
    lengths = {
        each.style: sum(len(text) for row in rows for text, style in row if style == each.style) for each in series
    }
    assert min(lengths.values()) > max(lengths.values()) / 2  # they take turns
    assert "raw" not in {style for row in rows for _, style in row}
    drawn = {sign for row in rows for text, _ in row for sign in text} & set("oxv")
    assert drawn == {ChartGlyphs(): set(), ChartGlyphs(mono=True): set("oxv"), ASCII: set("xv")}[glyphs]


def test_nearest_and_spark() -> None:
    assert [nearest([0.0, 10.0, 20.0], x) for x in (-5, 4, 5.1, 14, 99)] == [0, 0, 1, 1, 2]
    assert spark([0, 50, 100, math.nan, 200], 80, 0, 100) == "▁▅█ █"
    assert spark([0, 100], 1, 0, 100, ASCII) == "@"
    assert spark([], 5, 0, 1) == ""
