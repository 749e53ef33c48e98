"""The rows that a report draws: the right ones, their real samples, and what it says where the data has gone."""

from __future__ import annotations

import base64
import json
import re
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png
from PIL import Image
from reports import classification_run, read
from sklearn.decomposition import PCA

from deeptune.report import write_report
from deeptune.report.examples import MAX_EXAMPLES, MAX_TEXT, PIXELS, confidence_of, worst_first
from deeptune.report.finished_run import Predictions
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import write_json
from deeptune.spec.toml import dump_spec, load_spec, validate

# Stopped early on purpose: the curves need epochs that differ.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def predictions(truth, prediction, probabilities=None):
    return Predictions(np.arange(len(truth)), np.asarray(truth), np.asarray(prediction), probabilities)


def test_the_worst_classes_are_the_surest_wrong_ones_and_the_right_ones_come_last():
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.55, 0.45]])
    scored = predictions([0, 1, 0, 0], chances.argmax(axis=1), chances)
    assert worst_first(scored).tolist() == [2, 1, 0, 3]  # of the right ones the surest
    assert confidence_of(scored).tolist() == [0.9, 0.6, 0.8, 0.55]


def test_the_worst_numbers_are_the_farthest_and_a_missing_target_counts_for_nothing():
    assert worst_first(predictions([1.0, 2.0, 3.0], [1.5, 0.0, 3.0])).tolist() == [1, 0, 2]
    truth = np.array([[0.0, np.nan], [0.0, 1.0], [np.nan, np.nan]])
    assert worst_first(predictions(truth, np.array([[3.0, 9.0], [1.0, 2.0], [5.0, 5.0]]))).tolist() == [0, 1, 2]
    assert confidence_of(predictions([1.0], [2.0])) is None


def test_the_worst_labels_have_most_errors_and_the_least_sure_label_counts():
    truth = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0]])
    chances = np.array([[0.9, 0.2, 0.8], [0.1, 0.3, 0.4], [0.1, 0.45, 0.2]])
    scored = predictions(truth, (chances > 0.5).astype(int), chances)
    assert worst_first(scored).tolist() == [1, 0, 2]
    assert confidence_of(scored) == pytest.approx([0.8, 0.6, 0.55])


@pytest.fixture
def run(tmp_path):
    """A run whose spec names a file with an image for each row, which tells the row by its grey."""
    rows = 2000
    images = [png(8 + row // 250, 8, (row % 250,) * 3) for row in range(rows)]
    data = tmp_path / "digits.parquet"
    pq.write_table(pa.table({"images": images, "labels": ["x"] * rows}), data, row_group_size=100)
    folder = tmp_path / "run"
    folder.mkdir()
    known = classification_run(folder)
    return RunDirectory(folder), data, known


def pointed(run: RunDirectory, data, **report) -> None:
    values = load_spec(run.spec).model_dump(mode="json", exclude_none=True)
    values["data"] |= {"path": str(data), "input": "images"}
    run.spec.write_text(dump_spec(validate({**values, "report": report})))
    write_json(run.run, {**json.loads(run.run.read_text()), "started": data.stat().st_mtime + 1})


def drawn(html: str) -> list[tuple[int, str]]:
    """The row that each picture shows, by its pixels, and its alternative text."""
    found = []
    for code, alt in re.findall(r'<img class="example" src="data:image/png;base64,(.*?)" alt="(.*?)">', html):
        image = Image.open(BytesIO(base64.b64decode(code))).convert("RGB")
        assert max(image.size) <= PIXELS
        found.append(((image.size[0] - 8) * 250 + image.getpixel((0, 0))[0], alt))
    return found


def test_each_picture_is_that_of_the_row_that_its_caption_names(run):
    files, data, known = run
    pointed(files, data, samples=True)
    html, _ = read(files.path)
    pictures = drawn(html)
    rows = [int(re.search(r"Row ([\d,]+):", alt)[1].replace(",", "")) for _, alt in pictures]
    assert [row for row, _ in pictures] == rows
    table = pq.read_table(files.predictions).to_pandas()
    wrong = table[table.truth != table.prediction].sort_values("confidence", ascending=False, kind="stable")
    unsure = table.sort_values("confidence", kind="stable")
    assert rows == [*wrong.row[:MAX_EXAMPLES], *unsure.row[:MAX_EXAMPLES]]
    names = known["labels"].names
    first = wrong.iloc[0]
    said = f"true {int(first.truth)} ({names[int(first.truth)]}), predicted {int(first.prediction)}"
    assert said in pictures[0][1]
    sections = json.loads(files.report_data.read_text())["sections"]
    assert [row["row"] for row in sections["examples"]["rows"] + sections["uncertain"]["rows"]] == rows


def test_no_sample_of_the_data_is_in_the_report_unless_it_is_asked_for(run):
    files, data, _ = run
    pointed(files, data)
    html, page = read(files.path)
    assert "data:image" not in html
    assert f"deeptune report {files.id} --samples" in page.text  # how to have them
    found = json.loads(files.report_data.read_text())
    assert found["samples"] is False
    rows = [row["row"] for name in ("examples", "uncertain") for row in found["sections"][name]["rows"]]
    listed = [table for table in page.tables if table[0] == ["Row", "True", "Predicted", "How"]]
    assert [int(line[0].replace(",", "")) for table in listed for line in table[1:]] == rows
    assert len(rows) == 2 * MAX_EXAMPLES


def test_a_report_that_is_made_again_keeps_what_was_asked(run):
    files, data, _ = run
    pointed(files, data)
    write_report(files.path, samples=True)
    assert len(drawn(read(files.path)[0])) == 2 * MAX_EXAMPLES  # `read` writes it as evaluate and explain do
    write_report(files.path, samples=False)
    assert drawn(read(files.path)[0]) == []


def test_rows_of_data_that_has_gone_or_changed_are_named_and_not_drawn(run):
    files, data, _ = run
    pointed(files, data, samples=True)
    with_them = drawn(read(files.path)[0])
    assert len(with_them) == 2 * MAX_EXAMPLES
    pq.write_table(pq.read_table(data).slice(5), data)  # younger than the run, and its rows are others
    write_json(files.run, {**json.loads(files.run.read_text()), "started": 5.0})
    html, page = read(files.path)
    assert drawn(html) == []
    assert "Their samples are not drawn: the data has changed since the run" in page.text
    assert with_them[0][1].replace("&#x27;", "'") in page.text  # the captions stay
    data.unlink()
    html, page = read(files.path)
    assert drawn(html) == []
    assert "Their samples are not drawn" in page.text


def test_a_hostile_text_is_shown_as_text_and_a_long_one_is_cut(run, tmp_path):
    files, data, _ = run
    evil = "<script>alert(1)</script>\x1b[31m\u202e & "
    pq.write_table(pa.table({"texts": [evil + "x" * 1000] * 2000, "labels": ["x"] * 2000}), data)
    values = load_spec(files.spec).model_dump(mode="json", exclude_none=True)
    values["data"] |= {"path": str(data), "input": "texts", "modality": "text"}
    values |= {"backbone": {"name": "gpt2", "weights": "random"}, "report": {"samples": True}}
    values["train"]["augmentation"] = "none"
    files.spec.write_text(dump_spec(validate(values)))
    write_json(files.run, {**json.loads(files.run.read_text()), "started": data.stat().st_mtime + 1})
    html, page = read(files.path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "\x1b" not in html
    assert "\u202e" not in html
    texts = re.findall(r'<p class="example">(.*?)</p>', html, flags=re.DOTALL)
    assert len(texts) == 2 * MAX_EXAMPLES
    assert all(text.endswith("x…") and len(text) < MAX_TEXT + 60 for text in texts)


# Embeddings


def embed(files: RunDirectory, rows, labels, values) -> None:
    files.embeddings("test").parent.mkdir(exist_ok=True)
    kind = pa.list_(pa.float32(), values.shape[1])
    table = pa.table({"row": rows, "label": labels, "embedding": pa.array(list(values.astype(np.float32)), kind)})
    pq.write_table(table, files.embeddings("test"))


def test_the_embeddings_of_test_are_drawn_with_their_classes_and_errors(run):
    files, _, _ = run
    table = pq.read_table(files.predictions).to_pandas()
    values = np.random.default_rng(0).normal(size=(len(table), 5)) + table.truth.to_numpy()[:, None] * [1, 2, 0, 0, 0]
    embed(files, table.row.to_numpy(), table.truth.to_numpy(), values)
    _, page = read(files.path)
    data = json.loads(files.report_data.read_text())["sections"]["embeddings"]
    expected = PCA(2).fit(values.astype(np.float32))
    assert data["explained_variance"] == pytest.approx(expected.explained_variance_ratio_, rel=1e-4)
    legend = next(table for table in page.tables if table[0] == ["In the picture", "Label", "Rows", "Wrong"])
    assert len(legend) == 7  # five classes, and five more that share a look
    assert legend[-1][1] == "5 further classes"
    assert sum(int(row[2]) for row in legend[1:]) == len(table)
    assert sum(int(row[3]) for row in legend[1:]) == int((table.truth != table.prediction).sum())
    assert "Wrong predictions have a ring" in page.text


def test_half_of_an_embedding_file_costs_no_report(run):
    files, _, _ = run
    files.embeddings("test").parent.mkdir()
    files.embeddings("test").write_bytes(b"PAR1 and no more")
    write_report(files.path)
    assert "embeddings" not in json.loads(files.report_data.read_text())["sections"]
