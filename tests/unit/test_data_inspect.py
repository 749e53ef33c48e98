"""The wizard shows the same facts about data as a run would."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png, sixteen_bit_png

from deeptune.data.images.decode import decode_image
from deeptune.data.inspect import overview, preview, serve, survey
from deeptune.data.splits.planner import plan_data
from deeptune.errors import DataError
from deeptune.spec.toml import validate


def spec_of(path: Path | str, **sections: Any):
    data = {"path": str(path), **sections.pop("data", {})}
    return validate({"data": data, "backbone": {"name": "resnet18"}, **sections})


def write(path: Path, rows_in_group: int = 1_000_000, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows_in_group)
    return path


def test_the_footers_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", 4, text=["x"] * 10, labels=["u", "v"] * 5)
    found = overview(str(tmp_path))
    assert [Path(file).name for file in found.files] == ["a.parquet", "b.parquet"]
    assert found.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert (found.rows, found.row_groups) == (20, 6)
    assert [(c.name, c.type, c.modality) for c in found.columns] == [
        ("text", "string", "text"),
        ("labels", "string", "text"),
    ]
    assert found.guesses == {}


@pytest.mark.parametrize(
    ("columns", "guesses"),
    [
        ({"text": ["a b"] * 6, "labels": [1, 2] * 3}, {}),
        ({"text": ["a b"] * 6, "labels": [0.5, 1.5] * 3}, {"task": "regression"}),
        ({"text": ["a b"] * 6, "Class": ["x", "y"] * 3}, {"data.label": "Class"}),
        (
            {"scan": [b"\x89PNG"] * 6, "note": ["long text"] * 6, "label": ["u", "v"] * 3},
            {"data.input": "scan", "data.label": "label"},
        ),
        (
            {"id": list("abcdef"), "review": ["a rather long text"] * 6, "stars": [1, 2, 3] * 2},
            {"data.input": "review", "data.label": "stars"},
        ),
        (
            {"premise": ["it rains"] * 6, "hypothesis": ["it is a rather wet day"] * 6, "label": ["u", "v"] * 3},
            {"data.input": "premise, hypothesis", "data.label": "label"},
        ),
        ({"images": [b"x"] * 6, "text": ["t"] * 6, "labels": [1, 2] * 3}, {"data.modality": "image"}),
        (
            {"text": ["a b"] * 6, "date": ["2026-01-02", "2026-01-03"] * 3, "kind": ["x", "y", "z"] * 2},
            {"data.label": "kind"},
        ),
        ({"text": ["a b"] * 6, "angle": [0.5, 1.5, 2.5] * 2}, {"data.label": "angle", "task": "regression"}),
        (
            {"text": ["a b"] * 6, "edema": [0, 1] * 3, "nodule": [1, 0] * 3},
            {"data.label": "edema, nodule", "task": "multilabel"},
        ),
        (
            {"text": ["a b"] * 6, "diagnosis_code": ["x", "y"] * 3, "sex": ["f", "m"] * 3},
            {"data.label": "diagnosis_code"},
        ),
    ],
)
def test_columns_are_guessed_where_the_defaults_do_not_fit(tmp_path, columns, guesses) -> None:
    assert overview(str(write(tmp_path / "d.parquet", **columns))).guesses == guesses


def test_pairs_of_texts_are_shown_with_the_names_of_their_columns(tmp_path: Path) -> None:
    table = {"a": ["it rains", None, "x"], "b": ["wet", "dry", "y"], "labels": ["u", "v", "u"]}
    file = str(write(tmp_path / "d.parquet", **table))
    samples = preview(file, ["a", "b"], "labels", start=0, count=2)
    assert [(one.text, one.reason) for one in samples] == [
        ("a: it rains\nb: wet", None),
        (None, "is null in column 'a'"),
    ]


def test_a_survey_of_pairs_counts_the_letters_of_both_texts(tmp_path: Path) -> None:
    file = write(tmp_path / "d.parquet", a=["four"] * 24, b=["eightlet"] * 24, labels=["u", "v"] * 12)
    found = survey(spec_of(file, data={"input": ["a", "b"]}))
    assert (found.input, found.lengths) == (["a", "b"], (12, 12, 12))


def test_units_whose_rows_belong_together_are_found(tmp_path: Path) -> None:
    file = write(
        tmp_path / "d.parquet",
        text=["t"] * 6, labels=[1, 2] * 3, site=["s", "t", "u"] * 2, patient_id=[1, 1, 2, 2, 3, 3], user=list(range(6)),
    )  # fmt: skip
    assert overview(str(file)).groups == ["patient_id", "site"]


@pytest.mark.parametrize("sample", ["openclipart7", "movie_snippets"])
def test_classes_are_counted_as_the_run_splits_them(sample: str) -> None:
    spec = spec_of(f"sample:{sample}")
    plan, told = plan_data(spec), survey(spec)
    assert told.rows == {split: len(data) for split, data in plan.splits.items()}
    assert [name for name, *_ in told.classes] == list(plan.task.class_names)
    for column, data in enumerate(plan.splits.values()):
        assert [row[1 + column] for row in told.classes] == [
            int((data.targets == i).sum()) for i in range(plan.outputs)
        ]
    assert (told.lengths is None) == (sample == "openclipart7")


def test_numbers_have_a_histogram_of_all_rows() -> None:
    told = survey(spec_of("sample:digits_rotation", task="regression"))
    assert not told.classes
    assert (told.task, told.outputs) == ("regression", 1)
    assert sum(rows for _, _, rows in told.histograms[""]) == sum(told.rows.values()) == 500


def test_each_of_several_numbers_has_its_histogram(tmp_path: Path) -> None:
    x = [float(row) for row in range(40)]
    file = write(tmp_path / "d.parquet", text=["t"] * 40, x=x, y=[100 + 2 * value for value in x])
    told = survey(spec_of(file, task="regression", data={"input": "text", "label": ["x", "y"]}))
    assert told.outputs == 2
    spans = {name: (bins[0][0], bins[-1][1], sum(rows for *_, rows in bins)) for name, bins in told.histograms.items()}
    assert spans == {"x": (0.0, 39.0, 40), "y": (100.0, 178.0, 40)}


@pytest.mark.parametrize(
    ("labels", "sections", "message"),
    [
        (["a", None] * 12, {}, "12 of 24 labels in column 'labels' are missing"),
        (["a"] * 24, {}, "only one class"),
        ([0.5] * 24, {}, "classes are integers, strings or booleans"),
        (["a", "b"] * 12, {"task": "regression"}, "regression needs numbers"),
        (["a", "b"] * 12, {"data": {"label": "lables"}}, "Did you mean 'labels'?"),
        (["a", "b"] * 12, {"data": {"group": "text"}}, "groups"),
    ],
)
def test_problems_are_those_of_the_run_with_their_fix(tmp_path, labels, sections, message) -> None:
    spec = spec_of(write(tmp_path / "d.parquet", text=["same"] * 24, labels=labels), **sections)
    with pytest.raises(DataError) as run:
        plan_data(spec)
    with pytest.raises(DataError, match=r"data\.") as told:
        survey(spec)
    assert (told.value.message, told.value.hint) == (run.value.message, run.value.hint)
    assert message in str(told.value)


def test_a_preview_starts_at_any_row_of_several_files(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 100)):
        write(tmp_path / f"{name}.parquet", 7, text=[f"text {first + i}" for i in range(100)], labels=list(range(100)))
    for start in (0, 6, 7, 95, 99, 100, 130, 197):
        rows = preview(str(tmp_path), "text", "labels", start=start, count=8)
        assert [sample.row for sample in rows] == list(range(start, min(start + 8, 200)))
        assert [sample.text for sample in rows] == [f"text {sample.row}" for sample in rows]
        assert [sample.label for sample in rows] == [str(sample.row % 100) for sample in rows]
    assert preview(str(tmp_path), "text", None, start=200, count=8) == []


def test_a_preview_shows_pictures_and_what_is_none(tmp_path: Path) -> None:
    images = pa.array([{"bytes": png()}, {"bytes": None}, None], pa.struct([("bytes", pa.binary())]))
    rows = preview(str(write(tmp_path / "d.parquet", images=images, y=[1, 2, 3])), "images", "y", start=0, count=9)
    assert [row.image for row in rows] == [png(), None, None]
    assert [row.reason for row in rows] == [None, "is null", "is null"]


def test_a_large_picture_is_made_small_and_a_damaged_one_says_why(tmp_path: Path) -> None:
    file = write(tmp_path / "d.parquet", images=[png(2000, 1000), png()[:40]], y=[1, 2])
    large, damaged = preview(str(file), "images", "y", start=0, count=2)
    assert large.image is not None
    assert decode_image(large.image).size == (320, 160)
    assert damaged.image is None
    with pytest.raises(DataError) as error:
        decode_image(png()[:40])
    assert damaged.reason == error.value.message


def test_a_preview_shows_deep_grey_by_the_range_of_the_first_rows_or_a_given_one(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 4095]], np.uint16)
    file = write(tmp_path / "d.parquet", images=[sixteen_bit_png(values[..., None], 0)], y=[1])
    for given, expected in (("auto", [0, 62, 255]), ([0.0, 1000.0], [0, 255, 255])):
        (row,) = preview(str(file), "images", "y", start=0, count=1, value_range=given)
        assert row.image is not None
        assert np.asarray(decode_image(row.image))[0, :, 0].tolist() == expected
    (row,) = preview(str(file), "images", "y", start=0, count=1, value_range="none")
    assert row.reason is not None
    assert row.reason.startswith("has values of more than 8 bits (0 to 4,095)")


def test_a_preview_reads_the_files_that_a_column_names(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(png())
    file = write(tmp_path / "d.parquet", file=["a.png", "b.png"], y=[1, 2])
    there, missing = preview(str(file), "file", "y", start=0, count=2, root=str(tmp_path / "pictures"))
    assert there.image == png()
    assert missing.reason is not None
    assert missing.reason.startswith("names the file b.png, which does not exist")
    told = overview(str(file))
    assert [column.modality for column in told.columns] == ["image", None]
    assert told.guesses["data.input"] == "file"


def test_questions_are_answered_one_a_line(tmp_path: Path, environment: dict[str, str]) -> None:
    """In a process of its own, which neither loads torch nor ends over a question that fails."""
    file = write(tmp_path / "d.parquet", images=[png(), b"\xff"], labels=["\x1b[31mred", "[b]"])
    questions = [
        {"ask": "overview", "paths": str(tmp_path / "none.parquet")},
        {"ask": "preview", "paths": str(file), "input": "images", "label": "labels", "start": 0, "count": 2},
        {"ask": "survey", "spec": {"data": {"path": str(file)}, "backbone": {"name": "resnet18"}, "train": 5}},
    ]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deeptune.data.inspect"],
        input="".join(json.dumps(question) + "\n" for question in questions),
        capture_output=True, text=True, env=environment, check=True, timeout=60,
    )  # fmt: skip
    missing, rows, invalid = map(json.loads, done.stdout.splitlines())
    assert "there is no file" in missing["error"]
    assert [row["label"] for row in rows["answer"]] == ["\x1b[31mred", "[b]"]
    assert "train" in invalid["error"]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "transformers", "timm", "pandas", "sklearn"}


def test_an_import_tells_how_far_it_is_before_the_answer(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("deeptune.data.inspect.PROGRESS_INTERVAL", 0)
    (tmp_path / "d.csv").write_text("text,labels\n" + "a text,1\n" * 10)
    question = {"ask": "overview", "paths": str(tmp_path / "d.csv")}
    answers = io.StringIO()
    serve(io.StringIO(json.dumps({**question, "imports": False}) + "\n" + json.dumps(question) + "\n"), answers)
    refused, progress, answer = map(json.loads, answers.getvalue().splitlines())
    assert "has not been imported yet" in refused["error"]
    assert progress == {"progress": [10, 10]}
    assert "d.csv (CSV file) was imported: 10 rows" in answer["answer"]["notes"][0]


def test_a_damaged_file_is_told_and_the_next_question_answered(tmp_path: Path) -> None:
    file = write(tmp_path / "d.parquet", text=["some text"] * 2000, labels=["a", "b"] * 1000)
    content = bytearray(file.read_bytes())
    content[8:200] = b"\xff" * 192
    file.write_bytes(bytes(content))
    questions = [
        {"ask": "preview", "paths": str(file), "input": "text", "label": "labels", "start": 0, "count": 2},
        {"ask": "overview", "paths": "sample:movie_snippets"},
    ]
    answers = io.StringIO()
    serve(io.StringIO("".join(json.dumps(question) + "\n" for question in questions)), answers)
    damaged, whole = map(json.loads, answers.getvalue().splitlines())
    assert "cannot be read" in damaged["error"]
    assert whole["answer"]["rows"] == 2000
