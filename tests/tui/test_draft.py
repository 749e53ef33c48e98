"""A draft is a spec in texts: it makes the same spec, and the same command, as the person would."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptune.cli import app as cli
from deeptune.errors import SpecError
from deeptune.spec import RunSpec, dump_spec, load_spec
from deeptune.spec.fields import SpecField, spec_fields
from deeptune.spec.presets import preset_files
from deeptune.spec.toml import problems_in, validate
from tui.draft import Draft, Problem, draft_file

FIELDS = spec_fields()
BASE = {"data": {"path": "x.parquet"}, "backbone": {"name": "resnet18"}}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


def put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of nested tables with one more value."""
    copy = json.loads(json.dumps(values))
    *sections, last = key.split(".")
    place = copy
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return copy


def values_of(field: SpecField) -> st.SearchStrategy:
    numbers = st.floats(0, 100) | st.sampled_from([0.5, 1e-5, 3e-4])
    kinds: dict[str, st.SearchStrategy] = {
        "integer": st.integers(0, 5000),
        "number": numbers,
        "text": TEXT | st.sampled_from(["cuda:1", "30 s", "val/accuracy", "true", "1", "scans", 'a "b" [c]']),
        "paths": TEXT | st.lists(TEXT, min_size=1, max_size=3),
        "list": st.lists(TEXT, max_size=3),
        "table": st.dictionaries(TEXT, numbers, max_size=3),
    }
    if field.kind == "several":
        return st.lists(st.sampled_from(field.words), unique=True)
    return kinds.get(field.kind, st.nothing()) | (st.sampled_from(field.words) if field.words else st.nothing())


@st.composite
def specs(draw) -> RunSpec:
    """Valid specs: every key may have any value that the spec allows beside the others."""
    values: dict[str, Any] = BASE
    for field in draw(st.lists(st.sampled_from(FIELDS), max_size=12, unique_by=lambda field: field.key)):
        changed = put(values, field.key, draw(values_of(field)))
        if not problems_in(changed):
            values = changed
    return validate(values)


@settings(max_examples=300, deadline=None)
@given(specs())
def test_every_spec_comes_back_from_its_draft(spec: RunSpec) -> None:
    draft = Draft.from_spec(spec)
    assert draft.spec() == spec
    assert draft.problems() == []


@settings(max_examples=300, deadline=None)
@given(specs())
def test_the_command_makes_the_same_spec(spec: RunSpec) -> None:
    command = Draft.from_spec(spec).command()
    assert command[:2] == ["deeptune", "run"]
    data, overrides = None, []
    for option, value in zip(command[2::2], command[3::2], strict=True):
        if option == "--data":
            data = value
        else:
            assert option == "--set"
            overrides.append(value)
    assert load_spec(None, overrides, data=data) == spec


def test_the_command_has_only_what_differs_and_is_safe_in_a_shell(tmp_path) -> None:
    draft = Draft()
    draft.set("data.path", "my data; rm -rf ~/$HOME.parquet")
    draft.set("backbone.name", "resnet18")
    draft.set("train.seed", "42")  # the default
    draft.set("train.learning_rate", "1e-4")
    assert draft.shell_command() == (
        "deeptune run --data 'my data; rm -rf ~/$HOME.parquet' --set backbone.name=resnet18 "
        "--set train.learning_rate=0.0001"
    )
    assert draft.shell_command(tmp_path).endswith(f" --output {tmp_path}")


@pytest.mark.parametrize("preset", preset_files())
def test_every_preset_opens(preset: str) -> None:
    file = preset_files()[preset]
    assert Draft.from_file(file).spec() == load_spec(file)


def test_a_spec_that_was_saved_is_read_by_the_command_line(tmp_path, monkeypatch, capsys) -> None:
    draft = Draft.from_file(preset_files()["bert_lora"])
    (tmp_path / "mine.toml").write_text(dump_spec(draft.spec()))
    monkeypatch.setattr("sys.argv", ["deeptune", "spec", "check", str(tmp_path / "mine.toml")])
    assert cli.run_command() == 0
    assert "valid" in capsys.readouterr().out


def test_problems_are_those_of_the_command_line_at_their_fields() -> None:
    draft = Draft()
    draft.set("train.epochs", "many")
    draft.set("backbone.weights", "random")
    draft.set("data.split.train", "0.9")
    draft.set("data.path", "x.parquet")
    draft.set("train.loss", "mse")
    told = {problem.key: problem.message for problem in draft.problems()}
    assert told["train.epochs"] == "expected an integer of at least 1 or 'auto', got 'many'."
    assert "is missing" in told["backbone.name"]
    assert "must sum to 1" in told["data.split.train"]
    with pytest.raises(SpecError) as error:
        draft.spec()
    for message in told.values():
        assert message in error.value.message
    draft.set("backbone.name", "resnet18")
    draft.set("train.epochs", "")
    draft.set("data.split.train", "")
    assert {problem.key for problem in draft.problems()} == {"train.loss"}


def test_a_problem_knows_its_key_from_its_message() -> None:
    assert Problem.of("data.label: no such thing", None, key="x") == Problem("data.label", "no such thing")
    assert Problem.of("data.test, data.label: odd", "do", key="x") == Problem("data.label", "odd", "do")
    assert Problem.of("the file ended", None, key="data.path") == Problem("data.path", "the file ended")


def test_what_was_typed_is_kept_as_it_was_over_a_restart() -> None:
    draft = Draft(step="Head")
    draft.set("data.path", "/tmp/\udcff\x1b[31m.parquet")
    draft.set("train.epochs", "not a number")
    draft.guessed["data.label"] = "stars"
    draft.save()
    again = Draft.load()
    assert again is not None
    assert (again.given, again.guessed, again.step) == (draft.given, draft.guessed, "Head")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"step": 1, "given": 3, "guessed": {}}', '{"given": {}}'])
def test_a_damaged_draft_is_no_draft(content: str) -> None:
    draft_file().parent.mkdir(parents=True)
    draft_file().write_text(content)
    assert Draft.load() is None


def test_a_guess_gives_way_to_what_is_given() -> None:
    draft = Draft()
    draft.guessed["task"] = "regression"
    assert draft.value("task") == "regression"
    draft.set("task", "classification")
    assert draft.value("task") == "classification"
    assert "task" not in draft.changes()
    draft.set("task", "")
    assert draft.changes() == {"task": "regression"}


def test_a_new_run_from_a_run_leaves_open_what_was_left_open(trained):
    """Its file has a value for every key; those that the run chose are chosen anew."""
    draft = Draft.from_file(trained.spec)
    assert "train.learning_rate" in Draft.from_spec(load_spec(trained.spec)).given
    assert draft.spec().train.learning_rate == "auto"
    assert draft.overrides() == {
        "name": "pictures",
        "data.path": load_spec(trained.spec).data.path,
        "backbone.name": "resnet18",
        "backbone.weights": "random",
        "backbone.image_size": "32",
        "train.epochs": "3",
        "train.batch_size": "8",
        "train.device": "cpu",
        "train.workers": "0",
    }


def test_a_new_run_from_one_of_an_earlier_version_keeps_what_its_file_says(finished_run):
    told = json.loads(finished_run.run.read_text())
    del told["asked"]
    finished_run.run.write_text(json.dumps(told))
    assert Draft.from_file(finished_run.spec).spec() == load_spec(finished_run.spec)


def test_each_folder_has_a_draft_of_its_own(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert Draft.load() is None
        Draft({"data.path": f"{name}.parquet"}).save()
    assert Draft.load(draft_file(tmp_path / "one")).text("data.path") == "one.parquet"
    assert Draft.load().text("data.path") == "two.parquet"


def test_a_draft_of_what_stands_anyway_is_none():
    Draft({"tuning.method": "partial", "data.label": "labels"}).save()
    assert Draft.load() is None
