"""`deeptune audit`: what it prints and writes, and its exit codes."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from planting import NAMES, digits, png, write

import deeptune
from deeptune.data.sources.parquet import open_source


@pytest.fixture
def planted(tmp_path):
    """A cut image (row 7), a duplicate (4 and 20), a duplicate with two labels (5 and 21), and a variant of a label."""
    images, labels = digits()
    images[7] = images[7][:60]
    images[20], labels[20] = images[4], labels[4]
    images[21], labels[21] = images[5], next(name for name in NAMES if name != labels[5])
    variant = next(at for at in range(30, 300) if labels[at] == "three")
    labels[variant] = "Three"
    return write(tmp_path / "data.parquet", images=images, labels=labels, patient=[f"P{at % 90}" for at in range(300)])


def test_json_has_findings_and_an_error_exits_with_3(command, planted):
    result = command("audit", planted, "--no-features", "--json")
    assert result.code == 3
    report = json.loads(result.stdout)
    assert {"kind", "severity", "rows", "message", "fix"} <= set(report["findings"][0])
    assert [one["rows"] for one in report["findings"] if one["kind"] == "undecodable"] == [[7]]
    assert {column["name"]: column["role"] for column in report["overview"]["columns"]} == {
        "images": "input", "labels": "label", "patient": "unit",
    }  # fmt: skip


def test_warnings_exit_with_0_and_with_3_when_strict(command, tmp_path):
    images, labels = digits()
    images[20], labels[20] = images[4], labels[4]
    path = write(tmp_path / "data.parquet", images=images, labels=labels)
    assert command("audit", path, "--no-features").code == 0
    assert command("audit", path, "--no-features", "--strict").code == 3


def test_the_cleaned_file_is_clean(command, planted, tmp_path):
    clean = tmp_path / "clean.parquet"
    before = Path(planted).read_bytes()
    result = command("audit", planted, "--no-features", "--fix", str(clean), "--merge-labels")
    assert "left out 1 row whose sample can't be used" in result.stderr
    assert "left out 1 row with the sample of one that stays and no other label" in result.stderr
    assert "'Three' as 'three'" in result.stderr
    assert Path(planted).read_bytes() == before
    table = pq.read_table(clean)
    assert table.num_rows == 298
    assert set(table["labels"].to_pylist()) == set(NAMES)
    left = json.loads(command("audit", str(clean), "--no-features", "--json", "--group", "duplicate_group").stdout)
    conflicts = ("exact_duplicate", "suspected_label_error", "id_like_column")  # a person has to decide
    assert [one["message"] for one in left["findings"] if one["kind"] not in conflicts] == []


def test_duplicates_share_a_group_in_the_cleaned_file(command, planted, tmp_path):
    clean = tmp_path / "clean.parquet"
    command("audit", planted, "--no-features", "--fix", str(clean), "--group", "patient")
    table = pq.read_table(clean).to_pydict()
    by_image = {image: set() for image in table["images"]}
    by_patient = {patient: set() for patient in table["patient"]}
    for image, patient, group in zip(table["images"], table["patient"], table["duplicate_group"], strict=True):
        by_image[image].add(group)
        by_patient[patient].add(group)
    assert {len(groups) for groups in (*by_image.values(), *by_patient.values())} == {1}


def test_the_row_of_test_stays_in_the_cleaned_file(command, tmp_path):
    images, labels = digits()
    images[210], labels[210] = images[4], labels[4]
    split = ["train"] * 200 + ["validation"] * 5 + ["test"] * 95
    path = write(tmp_path / "data.parquet", images=images, labels=labels, fold=split)
    clean = tmp_path / "clean.parquet"
    command("audit", path, "--no-features", "--split-column", "fold", "--fix", str(clean))
    kept = pq.read_table(clean).to_pydict()
    assert [kept["fold"][at] for at, image in enumerate(kept["images"]) if image == images[4]] == ["test"]


def test_of_identical_samples_the_labelled_one_stays_in_the_cleaned_file(command, tmp_path):
    images, labels = digits()
    images[20], labels[4] = images[4], None
    path, clean = write(tmp_path / "data.parquet", images=images, labels=labels), tmp_path / "clean.parquet"
    command("audit", path, "--no-features", "--fix", str(clean))
    kept = pq.read_table(clean).to_pydict()
    assert [kept["labels"][at] for at, image in enumerate(kept["images"]) if image == images[4]] == [labels[20]]


def test_metadata_of_the_file_stay_in_the_cleaned_one(command, tmp_path):
    clean = tmp_path / "clean.parquet"
    command("audit", "sample:openclipart7", "--no-features", "--fix", str(clean))
    assert open_source(str(clean)).label_names() == open_source("sample:openclipart7").label_names()


def test_the_audited_file_is_not_replaced(command, planted):
    before = Path(planted).read_bytes()
    result = command("audit", planted, "--no-features", "--fix", planted)
    assert result.code == 2
    assert "is the file that is audited" in result.stderr
    assert Path(planted).read_bytes() == before


def test_several_files_have_no_cleaned_one(command, planted, tmp_path):
    """Which is said before the audit, as that may take minutes."""
    result = command(
        "audit", "--train", planted, "--test", "sample:openclipart7", "--fix", str(tmp_path / "out.parquet")
    )
    assert result.code == 2
    assert result.stdout == ""
    assert not (tmp_path / "out.parquet").exists()


def test_html_shows_the_rows(command, planted, tmp_path):
    page = tmp_path / "audit.html"
    command("audit", planted, "--no-features", "--html", str(page))
    text = page.read_text()
    assert text.count("data:image/png;base64,") >= 4
    assert "2 errors" in text
    assert "<script" not in text


def test_what_a_file_says_is_no_markup(command, tmp_path):
    images, labels = digits()
    labels = ["<b>bold</b>" if label == "one" else label for label in labels]
    labels[labels.index("<b>bold</b>")] = "<b>BOLD</b>"
    path, page = write(tmp_path / "data.parquet", images=images, labels=labels), tmp_path / "audit.html"
    command("audit", path, "--no-features", "--html", str(page))
    assert "<b>bold" not in page.read_text()


def test_neither_file_nor_splits_is_a_spec_error(command):
    assert command("audit").code == 2


def test_a_missing_file_is_a_data_error(command, tmp_path):
    result = command("audit", str(tmp_path / "none.parquet"))
    assert result.code == 3
    assert "Traceback" not in result.stderr


def test_a_terminal_gets_pictures(terminal, planted):
    _, text = terminal("audit", planted, "--no-features")
    assert "▀" in text


def test_the_load_of_a_machine_does_not_decide_on_features(tiny_bert, tmp_path, monkeypatch):
    path = write(tmp_path / "text.parquet", text=[f"the plot {row}" for row in range(40)], labels=["a", "b"] * 20)
    clock = itertools.count(step=1000)  # as if each step took a quarter of an hour
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    assert not deeptune.audit(path, backbone=f"hf:{tiny_bert}", budget=60).notes


def test_features_beyond_the_budget_are_replaced_unless_they_are_stored(command, tiny_bert, tmp_path):
    path = str(write(tmp_path / "text.parquet", text=[f"acting {row}" for row in range(40)], labels=["a", "b"] * 20))
    options = ("audit", path, "--backbone", f"hf:{tiny_bert}", "--json", "--budget", "0")
    (note,) = json.loads(command(*options).stdout)["notes"]
    assert "more than the 0 s allowed: cheap ones are used" in note
    command(*options[:-2])
    assert not json.loads(command(*options).stdout)["notes"]


def test_a_backbone_s_own_tokens_are_counted(command, tiny_bert, tmp_path):
    texts = ["a good film " * 3] * 2 + [f"a bad film {'good ' * at}" for at in range(3, 200, 4)]
    path = write(tmp_path / "data.parquet", text=texts, labels=[at % 2 for at in range(len(texts))])
    result = command("audit", path, "--backbone", f"hf:{tiny_bert}", "--json")
    found = [one for one in json.loads(result.stdout)["findings"] if one["kind"] == "truncated_text"]
    assert len(found) == 1
    assert "tokens" in found[0]["message"]


def test_numbers_and_a_short_file_are_audited(command, tmp_path):
    images = [png(np.full((8, 8), at * 40, np.uint8)) for at in range(3)]
    path = write(tmp_path / "data.parquet", images=images, labels=[0.5, 1.5, None])
    assert command("audit", path, "--no-features").code == 3


def test_a_dry_run_warns_as_the_run_does(command, tmp_path):
    images, labels = digits()
    path = write(tmp_path / "data.parquet", images=images, labels=labels, patient=[f"P{at % 90}" for at in range(300)])
    result = command("run", "--data", path, "--set", "backbone.name=resnet18", "--dry-run")
    assert result.code == 0
    assert "warning: column 'patient' looks like a person's id" in result.stdout
