"""`deeptune init`: a spec that fits a file, with and without questions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ptys import Terminal

from deeptune.spec import load_spec

ROWS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    columns = {
        "report": [f"a text of some length about case {row}" for row in range(ROWS)],
        "patient": [f"p{row // 2}" for row in range(ROWS)],
        "finding": ["none", "nodule"] * (ROWS // 2),
        "severity": [row / 7 for row in range(ROWS)],
    }
    pq.write_table(pa.table(columns), tmp_path / "reports.parquet")
    return tmp_path


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deeptune", "init", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_without_a_terminal_the_proposals_are_taken(folder):
    done = init(folder, "reports.parquet", "--backbone", "bert-base-cased")
    assert done.returncode == 0, done.stderr
    spec = load_spec(folder / "spec.toml")
    assert (spec.task, spec.data.input, spec.data.label) == ("classification", "report", "finding")
    assert spec.data.group == "patient"
    assert (spec.backbone.name, spec.tuning.method) == ("bert-base-cased", "partial")
    text = (folder / "spec.toml").read_text()
    assert "fetching about 431 MB" in text.replace("\n# ", " ")
    assert "2 classes" in done.stdout


def test_options_settle_what_they_name(folder):
    done = init(
        folder, "reports.parquet", "--label", "severity", "--task", "regression", "--group", "", "--method", "lora",
        "--backbone", "gpt2", "-o", "x.toml",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    spec = load_spec(folder / "x.toml")
    assert (spec.task, spec.data.label, spec.data.group) == ("regression", "severity", None)
    assert spec.tuning.method == "lora"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reports.parquet", "--label", "findings"], ["data.label: there is no column findings", "finding, severity"]),
        (["reports.parquet", "--backbone", "resnet81"], ["there is no backbone 'resnet81'"]),
        (["absent.parquet"], ["absent.parquet"]),
        ([], ["no data named"]),
    ],
)
def test_what_does_not_fit_is_one_message_and_no_file(folder, arguments, words):
    done = init(folder, *arguments)
    assert done.returncode in (2, 3, 4)
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "spec.toml").exists()


def test_a_spec_that_exists_stays(folder):
    (folder / "spec.toml").write_text("mine")
    assert init(folder, "reports.parquet").returncode == 2
    assert (folder / "spec.toml").read_text() == "mine"


def test_in_a_terminal_it_asks_and_later_questions_follow_earlier_answers(folder):
    with Terminal(["init", "reports.parquet", "--backbone", "gpt2"], folder, dict(os.environ)) as terminal:
        for question, answer in (
            ("Input column", ""),
            ("Label column", "severity"),
            ("Task", "regression"),
            ("Column of the patient", ""),
            ("Method", "full"),
        ):
            terminal.shows(question)
            terminal.type(f"{answer}\r")
        terminal.shows("wrote spec.toml")
    spec = load_spec(folder / "spec.toml")
    assert (spec.task, spec.data.label, spec.data.group) == ("regression", "severity", "patient")
    assert spec.tuning.method == "full"


def test_rows_without_a_label_are_left_out_and_the_spec_says_so(folder):
    table = pq.read_table(folder / "reports.parquet")
    findings = [None, "", *table["finding"].to_pylist()[2:]]
    pq.write_table(table.set_column(2, "finding", pa.array(findings)), folder / "gaps.parquet")
    done = init(folder, "gaps.parquet", "--backbone", "bert-base-cased")
    assert done.returncode == 0, done.stderr
    assert load_spec(folder / "spec.toml").data.on_bad_sample == "skip"
    assert "2 of 40 rows have no label" in (folder / "spec.toml").read_text()
