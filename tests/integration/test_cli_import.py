"""`deeptune import`: what it writes, says and refuses, and that a run takes the result."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pictures import png
from typer.testing import CliRunner

from deeptune.cli.app import app


@pytest.fixture
def photos(tmp_path):
    for place in range(12):
        for name in ("cats", "dogs"):
            file = tmp_path / "photos" / name / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(colour=(place, len(name), name == "cats")))
    return tmp_path / "photos"


def test_the_command_that_an_import_names_next_is_accepted(photos, tmp_path, command):
    done = command("import", str(photos), "-o", str(tmp_path / "photos.parquet"))
    assert done.code == 0, done.stderr
    words = shlex.split(done.stdout.rpartition("next: ")[2])
    tiny = ["--set", "backbone.name=resnet18", "--set", "backbone.weights=random", "--set", "backbone.image_size=32"]
    run = command(*words[1:], *tiny)
    assert run.code == 0, run.stderr


def test_the_command_that_is_named_next_leaves_out_rows_without_a_label(tmp_path, command):
    labels = ["" if number % 10 == 3 else "ab"[number % 2] for number in range(40)]
    rows = "".join(f"some text {number},{label}\n" for number, label in enumerate(labels))
    (tmp_path / "data.csv").write_text("review,mood\n" + rows)
    done = command("import", "data.csv", "-o", "data.parquet", "--label", "mood", "--input", "review")
    assert "some rows have no label" in done.stdout
    words = shlex.split(done.stdout.rpartition("next: ")[2])
    assert "data.on_bad_sample=skip" in words
    run = command(*words[1:], "--set", "backbone.weights=random")
    assert run.code == 0, run.stderr


def test_json_says_what_was_done(photos, tmp_path, command):
    (photos / "cats" / "bad.png").write_bytes(b"")
    done = command("import", str(photos), "-o", str(tmp_path / "photos.parquet"), "--json")
    facts = json.loads(done.stdout)
    assert (facts["rows"], facts["left_out"]) == (24, 1)
    assert facts["roles"] == {"input": "images", "label": "labels"}


def test_an_output_that_is_there_is_replaced_on_request_only(photos, tmp_path, command):
    (tmp_path / "photos.parquet").write_text("mine")
    refused = command("import", str(photos), "-o", str(tmp_path / "photos.parquet"))
    assert refused.code == 2
    assert "is there already" in refused.stderr
    assert command("import", str(photos), "-o", str(tmp_path / "photos.parquet"), "--force").code == 0
    assert pq.read_table(tmp_path / "photos.parquet").num_rows == 24


@pytest.mark.parametrize(
    ("source", "output", "code", "says"),
    [
        ("photoz", "out.parquet", 3, "Did you mean 'photos'?"),
        ("photos", "out.csv", 2, "does not end with .parquet"),
        ("photos", "photos/out.parquet", 2, "would become part of it"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_message(photos, tmp_path, command, source, output, code, says):
    done = command("import", str(tmp_path / source), "-o", str(tmp_path / output))
    assert done.code == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_pictures_is_trained_on_and_predicted(photos, tmp_path, command):
    tiny = {"backbone.name": "resnet18", "backbone.weights": "random", "backbone.image_size": 32, "train.epochs": 1}
    settings = [word for key, value in tiny.items() for word in ("--set", f"{key}={value}")]
    run = command("run", "--data", str(photos), *settings, "--foreground", "--json")
    assert run.code == 0, run.stderr
    folder = Path(json.loads(run.stdout.splitlines()[-1])["run"])
    assert "photos (folder of pictures) was imported: 24 rows in the cache" in (folder / "events.jsonl").read_text()
    assert f'path = "{photos}"' in (folder / "spec.toml").read_text()
    done = command("predict", str(folder), "--data", str(photos), "-o", "out.parquet", "-q")
    assert done.code == 0, done.stderr
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 24


def test_data_that_cannot_be_imported_leaves_no_run_behind(tmp_path, command):
    (tmp_path / "data.csv").write_text("a,a\n1,2\n")
    done = command("run", "--data", "data.csv", "--set", "backbone.name=bert")
    assert done.code == 3
    assert "data.path: data.csv: the first row names 'a' twice" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_columns_of_a_table_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("review,mood,who\n" + "".join(f"text {i},{i % 2},{i // 2}\n" for i in range(12)))
    asked = CliRunner().invoke(app, ["import", "data.csv", "-o", "a.parquet", "--ask"], input="moo\nmood\nreview\n-\n")
    assert asked.exit_code == 0, asked.output
    assert "there is no column 'moo'" in asked.output
    assert pq.read_schema(tmp_path / "a.parquet").names == ["text", "labels", "who"]


def test_numbers_alone_are_said_to_be_nothing_to_learn_from(tmp_path, command):
    (tmp_path / "sizes.csv").write_text("height,width,price\n" + "".join(f"{i}.5,{i},{i * i}\n" for i in range(9)))
    done = command("import", "sizes.csv", "-o", "sizes.parquet")
    assert done.code == 0, done.stderr
    assert "next: a run learns from images or texts, and no column holds any" in done.stdout
    assert json.loads(command("import", "sizes.csv", "-o", "b.parquet", "--json").stdout)["run"] is None


def test_pictures_without_labels_say_how_they_get_them(tmp_path, command):
    (tmp_path / "photos").mkdir()
    for number in range(4):
        (tmp_path / "photos" / f"{number}.png").write_bytes(png(colour=(number, 0, 0)))
    done = command("import", "photos", "-o", "photos.parquet")
    assert "next: a run needs labels" in done.stdout
    assert "put pictures in a folder for each class" in done.stdout
    assert "deeptune embed --backbone" in done.stdout


def test_names_of_backbones_are_proposed_without_quotes(tmp_path, command):
    (tmp_path / "data.csv").write_text("review,mood\n" + "".join(f"some text {i},{'ab'[i % 2]}\n" for i in range(12)))
    done = command("import", "data.csv", "-o", "data.parquet")
    assert "--set backbone.name=bert-base-multilingual-cased" in done.stdout
    assert "--set data.label=mood" in done.stdout


def test_a_column_that_is_mostly_missing_is_not_guessed_as_the_label(tmp_path, command):
    rows = "".join(f"some text {i},{'xy'[i % 2] if i < 2 else ''},{'abc'[i % 3]}\n" for i in range(12))
    (tmp_path / "data.csv").write_text("review,view,mood\n" + rows)
    assert "--set data.label=mood" in command("import", "data.csv", "-o", "data.parquet").stdout
