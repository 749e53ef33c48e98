"""The rows that a run got most wrong, from its predictions, and what it saw of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png, sixteen_bit_png

from deeptune.data.images.decode import decode_image
from deeptune.data.run_samples import RunSamples
from deeptune.data.shown import ShownSample
from deeptune.errors import DataError
from deeptune.runs import RunDirectory, write_json, write_text
from tui.widgets.monitor.examples import worst_examples


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """A text run on two files of several row groups."""
    for name, start in (("a", 0), ("b", 10)):
        texts = [f"text {row}" for row in range(start, start + 10)]
        pq.write_table(pa.table({"text": texts, "labels": [0] * 10}), tmp_path / f"{name}.parquet", row_group_size=3)
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    spec = f'[data]\npath = "{tmp_path}/*.parquet"\n[backbone]\nname = "bert-base-cased"\n'
    write_text(run.spec, spec)
    return run


@pytest.mark.parametrize("row", [0, 2, 3, 9, 10, 19])
def test_a_text_is_read_from_its_file_and_row_group(run, row):
    assert RunSamples(run).read("test", row) == ShownSample(text=f"text {row}")


def test_why_a_row_can_not_be_read_is_what_is_found(run):
    samples, second = RunSamples(run), run.path.parent / "b.parquet"
    kept = second.read_bytes()
    assert "has no row 20" in str(samples.read("test", 20))
    pq.write_table(pa.table({"text": ["one", None], "labels": [0, 0]}), second)
    assert samples.read("test", 10) == ShownSample(text="one")  # the sources were opened again
    assert "row 11 is null" in str(samples.read("test", 11))
    second.unlink()
    assert isinstance(samples.read("test", 11), DataError)
    second.write_bytes(kept)
    assert samples.read("test", 11) == ShownSample(text="text 11")


def test_an_image_is_shown_by_the_range_of_the_run_and_read_from_its_file(tmp_path):
    (tmp_path / "deep.png").write_bytes(sixteen_bit_png(np.array([[[0], [500], [4095]]], np.uint16), 0))
    (tmp_path / "plain.png").write_bytes(png())
    pq.write_table(pa.table({"images": ["deep.png", "plain.png"], "labels": [0, 1]}), tmp_path / "d.parquet")
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    data = f'[data]\npath = "{tmp_path}/d.parquet"\nmodality = "image"\nvalue_range = [0, 1000]\n'
    write_text(run.spec, data + '[backbone]\nname = "resnet18"\n')
    samples = RunSamples(run)
    assert np.asarray(decode_image(samples.read("test", 0).image))[0, :, 0].tolist() == [0, 128, 255]
    assert samples.read("test", 1) == ShownSample(image=png())


def test_wrong_classes_are_sorted_by_confidence_and_named(run):
    write_json(run.labels, {"task": "classification", "values": [0, 1], "names": ["no", "yes\x1b[2J"]})
    columns = {"row": [3, 5, 8, 9], "truth": [0, 1, 0, None], "prediction": [1, 0, 0, 1]}
    pq.write_table(pa.table({**columns, "confidence": [0.6, 0.9, 0.99, 0.99]}), run.predictions)
    assert [example.line for example in worst_examples(run)] == [
        "90% sure  yes\\x1b[2J → no  row 5",
        "60% sure  no → yes\\x1b[2J  row 3",
    ]


def test_numbers_are_sorted_by_their_error(run):
    columns = {"row": [3, 5, 8], "truth": [1.0, 2.0, 3.0], "prediction": [1.5, -2.0, None]}
    pq.write_table(pa.table(columns), run.predictions)
    assert [(example.row, example.how) for example in worst_examples(run)] == [
        (5, "off by 4.000"),
        (3, "off by 0.5000"),
    ]
    assert [example.line for example in worst_examples(run)] == [
        "4.000     2.000 → -2.000  row 5",  # whose row has room at 80 columns
        "0.5000    1.000 → 1.500  row 3",
    ]
    assert worst_examples(run)[0].title == "off by 4.000  2.000 → -2.000  row 5"


def test_no_predictions_or_damaged_ones_are_no_examples(run):
    assert worst_examples(run) == []
    run.predictions.write_bytes(b"PAR1")
    assert worst_examples(run) == []
    pq.write_table(pa.table({"row": [1]}), run.predictions)
    assert worst_examples(run) == []


def test_an_image_with_a_text_is_shown_with_both(tmp_path):
    table = {"images": [png(), png()], "caption": ["a square", None], "labels": [0, 1]}
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    data = f'[data]\npath = "{tmp_path}/d.parquet"\ninput = ["images", "caption"]\n'
    write_text(run.spec, data + '[backbone]\nname = "resnet18"\n[backbone.text]\nname = "bert"\n')
    samples = RunSamples(run)
    assert samples.read("test", 0) == ShownSample(image=png(), text="a square")
    assert "row 1 is null (column 'caption')" in str(samples.read("test", 1))
