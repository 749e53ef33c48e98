"""The plot of predicted against true numbers."""

from __future__ import annotations

from array import array

import pyarrow as pa
import pyarrow.parquet as pq

from deeptune.runs import RunDirectory
from deeptune.show import agreement
from deeptune.show.agreement import Agreement, draw, read_agreement
from deeptune.show.chart import BRAILLE, ChartGlyphs


def lines(found: Agreement, width: int = 60, height: int = 20, glyphs: ChartGlyphs | None = None) -> list[str]:
    return ["".join(text for text, _ in row) for row in draw(found, width, height, glyphs or ChartGlyphs())]


def along(*values: float, off: float = 0.0) -> Agreement:
    return Agreement(array("d", values), array("d", (value + off for value in values)), len(values))


def dotted(line: str) -> list[int]:
    return [at for at, character in enumerate(line) if ord(character) > BRAILLE]


def test_every_row_has_the_width_that_it_was_given() -> None:
    for width, height in ((60, 20), (24, 6), (10, 4), (120, 40)):
        drawn = lines(along(0.0, 5.0, 10.0), width, height)
        assert len(drawn) == height
        assert {len(line) for line in drawn} == {width}


def test_predictions_that_are_right_lie_on_the_line_and_others_beside_it() -> None:
    values = [float(value) for value in range(100)]
    assert sum("·" in line for line in lines(along(*values))) <= 2  # the points cover it
    low = lines(along(*values, off=-30.0))
    assert all(min(dotted(line)) > line.index("·") for line in low if dotted(line) and "·" in line)


def test_both_axes_have_the_same_range_and_are_named() -> None:
    drawn = lines(along(-40.0, 0.0, 40.0))
    assert drawn[0].startswith("predicted over true  3 rows")
    assert drawn[-1].rstrip().endswith("true")
    for label in ("-40", "0", "40"):
        assert any(line.lstrip().startswith(f"{label}┤") for line in drawn)
        assert label in drawn[-1]


def test_ascii_is_drawn_with_ascii() -> None:
    assert "".join(lines(along(1.0, 2.0, 3.0), glyphs=ChartGlyphs(ascii=True))).isascii()


def test_one_number_and_numbers_of_any_size_are_drawn() -> None:
    for values in ((5.0,), (0.0, 1e300), (-1e-12, 1e-12), (7.0, 7.0, 7.0)):
        assert len(lines(along(*values))) == 20


def write(folder, **columns) -> RunDirectory:
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    return RunDirectory(folder)


def test_rows_without_a_number_are_left_out(tmp_path) -> None:
    run = write(tmp_path, row=[0, 1, 2, 3], truth=[1.0, 2.0, None, 4.0], prediction=[1.5, None, 3.0, float("nan")])
    assert read_agreement(run) == Agreement(array("d", [1.0]), array("d", [1.5]), 1)


def test_classes_a_damaged_file_and_none_have_no_plot(tmp_path) -> None:
    assert read_agreement(RunDirectory(tmp_path)) is None
    assert read_agreement(write(tmp_path, row=[0], truth=["a"], prediction=["b"], confidence=[0.5])) is None
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1 and no more")
    assert read_agreement(RunDirectory(tmp_path)) is None


def test_of_very_many_rows_a_part_is_drawn_which_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(agreement, "MAX_POINTS", 100)
    numbers = [float(number) for number in range(250)]
    found = read_agreement(write(tmp_path, row=list(range(250)), truth=numbers, prediction=numbers))
    assert found is not None
    assert len(found.truth) <= 100
    assert f"{len(found.truth)} of 250 rows" in lines(found)[0]
