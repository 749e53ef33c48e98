"""Which run a word names, and that no word leads out of the folder of runs."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest

from deeptune.errors import CheckpointError, SpecError
from deeptune.runs import RunDirectory, find_run, new_run_directory, runs_in


@pytest.fixture
def root(tmp_path):
    for age, name in enumerate(["gpt2-lora-a1", "gpt2-lora-b2", "gpt2-lora-b2x", "resnet18-c3"]):
        (tmp_path / "runs" / name).mkdir(parents=True)
        spec = tmp_path / "runs" / name / "spec.toml"
        spec.write_text("")
        os.utime(spec, (1000 + age % 3, 1000 + age % 3))  # the newest is gpt2-lora-b2x
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "file").write_text("")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("gpt2-lora-a1", "gpt2-lora-a1"),
        ("gpt2-lora-b2", "gpt2-lora-b2"),  # a whole id, though another one starts with it
        ("gpt2-lora-b2x", "gpt2-lora-b2x"),
        ("r", "resnet18-c3"),
        ("latest", "gpt2-lora-b2x"),
    ],
)
def test_an_id_its_start_or_the_latest(root, reference, name):
    found = find_run(reference, root)
    assert found.id == name
    assert found.path == root / name


def test_a_path_names_a_run_wherever_it_is(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_run("runs/resnet18-c3", tmp_path / "nowhere").path == root / "resnet18-c3"
    assert find_run(str(root / "resnet18-c3") + "/").path == root / "resnet18-c3"
    assert find_run("runs/../runs/resnet18-c3").id == "resnet18-c3"
    monkeypatch.chdir(root / "resnet18-c3")
    assert find_run(".").id == "resnet18-c3"


def test_a_start_that_several_ids_share(root):
    with pytest.raises(
        SpecError, match=r"'gpt2' is the prefix of 3 runs .*: gpt2-lora-b2x, gpt2-lora-b2, gpt2-lora-a1"
    ):
        find_run("gpt2", root)


def test_the_end_of_an_id_names_a_run_as_narrow_lists_show_it(root):
    assert find_run("-c3", root).id == "resnet18-c3"
    (root / "other-c3").mkdir()
    (root / "other-c3" / "spec.toml").write_text("")
    with pytest.raises(SpecError, match=r"'c3' is the end of 2 runs"):
        find_run("c3", root)


@pytest.mark.parametrize("reference", ["", ".", "..", "../..", "/", "../runs", "notes", "*", "\x00", "x" * 5000])
def test_what_is_no_run_is_refused(root, reference):
    with pytest.raises(SpecError, match=re.escape(f"there is no run {reference!r}")):
        find_run(reference, root)


def test_the_nearest_ids_are_told(root, tmp_path):
    with pytest.raises(SpecError, match="Did you mean 'resnet18-c3'"):
        find_run("resnet18-c4", root)
    with pytest.raises(SpecError, match="there is no run 'latest'"):
        find_run("latest", tmp_path / "empty")


def test_a_folder_of_runs_is_not_a_run_but_names_them(root):
    with pytest.raises(SpecError, match=r"it is a folder of \d+ runs: .*resnet18-c3"):
        find_run(str(root), root.parent)


def test_every_new_run_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [new_run_directory(tmp_path / "deep" / "runs", "gpt2-lora") for _ in range(20)]
    assert len({run.id for run in runs}) == 20
    assert all(re.fullmatch(r"gpt2-lora-\d{8}-\d{6}-[0-9a-f]{6}", run.id) for run in runs)
    assert all(run.control.is_dir() and run.path.is_absolute() for run in runs)
    assert runs[0].embeddings("val") == runs[0].path / "embeddings" / "val.parquet"
    assert RunDirectory(runs[0].path) == runs[0]


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*Not a directory"):
        new_run_directory(tmp_path / "runs", "x")


def test_the_newest_is_the_one_that_was_started_last_not_resumed_last(tmp_path):
    old, new = (new_run_directory(tmp_path, name) for name in ("old", "new"))
    for run, started in ((new, 2000.0), (old, 1000.0)):
        run.spec.write_text("")
        run.run.write_text(json.dumps({"started": started}))
    os.utime(new.spec, (1, 1))
    assert [run.id for run in runs_in(tmp_path)] == [new.id, old.id]
    assert find_run("latest", tmp_path) == new
    for damaged in ('{"started": "x"}', '{"started": NaN}', "[]", "{", "{}"):
        new.run.write_text(damaged)
        assert new.started == 1.0
    shutil.rmtree(new.path)
    assert new.started == 0.0


@pytest.mark.parametrize(
    ("state", "phase", "over"),
    [
        ("failed", "data", True),
        ("failed", "features", True),
        ("failed", "train", False),
        ("failed", "report", False),
        ("stopped", "data", False),  # it can be resumed
        ("running", "data", False),
        (None, "data", False),
    ],
)
def test_latest_passes_over_runs_that_failed_before_training(tmp_path, state, phase, over):
    old, new = (new_run_directory(tmp_path, name) for name in ("old", "new"))
    for run, started in ((old, 1000.0), (new, 2000.0)):
        run.spec.write_text("")
        run.run.write_text(json.dumps({"started": started}))
    new.status.write_text(json.dumps({"phase": phase}))
    if state is not None:
        new.result.write_text(json.dumps({"state": state}))
    assert find_run("latest", tmp_path) == (old if over else new)
    shutil.rmtree(old.path)
    assert find_run("latest", tmp_path) == new  # rather than none
