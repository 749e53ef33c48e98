"""A run's name, note and tags, and the filter that finds runs by them."""

from __future__ import annotations

import json

import pytest

from deeptune.errors import SpecError
from deeptune.runs import RunDirectory, RunState
from deeptune.runs.notes import MAX_NAME, Notes, read_notes, tags_from, write_notes
from deeptune.show.filters import Described, describe, make_filter


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_notes_are_read_as_they_were_written(run):
    assert not read_notes(run)
    notes = Notes("the good one", "48 px was too small", ("baseline", "paper"))
    write_notes(run, notes)
    assert read_notes(run) == notes
    write_notes(run, Notes())
    assert not read_notes(run)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", Notes()),
        ("[1]", Notes()),
        ('{"name": 3, "note": null, "tags": "x"}', Notes()),
        ('{"name": "a", "tags": ["b", 4, "", "b"]}', Notes("a", "", ("b",))),
    ],
)
def test_damaged_notes_are_no_error(run, content, expected):
    run.notes.write_text(content)
    assert read_notes(run) == expected


def test_a_name_that_is_too_long_is_refused_and_the_old_one_kept(run):
    write_notes(run, Notes("old"))
    with pytest.raises(SpecError, match="the name has 101 characters"):
        write_notes(run, Notes("x" * (MAX_NAME + 1)))
    assert json.loads(run.notes.read_text())["name"] == "old"


def test_tags_as_people_type_them():
    assert tags_from(" #baseline, paper  baseline,") == ("baseline", "paper")


RUN = Described(
    {"id": "derm-2026", "tag": "#baseline #paper", "state": "failed", "backbone": "resnet18", "name": "", "note": "",
     "method": "lora", "task": "classification"},
    {"accuracy": 0.83, "loss": 0.4},
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", True),
        ("derm lora", True),
        ("derm vit", False),
        ("tag:base", True),
        ("tag:other", False),
        ("tag:aseline", False),  # a tag from its start
        ("state:failed", True),
        ("state:done", False),
        ("STATE:FAILED Derm", True),
        ("backbone:resnet", True),
        ("accuracy>0.8", True),
        ("accuracy > 0.8", True),
        ("accuracy>=.83 loss<0.5", True),
        ("accuracy>0.9", False),
        ("test/accuracy<1e0", True),
        ("rmse<100", False),  # which this run does not have
        ("tag:paper accuracy>0.8 vit", False),
    ],
)
def test_a_filter_takes_words_tags_states_and_metrics(text, found):
    assert make_filter(text)(RUN) == found


def test_a_metric_that_does_not_exist_is_named_with_its_nearest():
    with pytest.raises(SpecError, match=r"there is no metric 'acuracy'. Did you mean 'accuracy'") as caught:
        make_filter("acuracy>0.8")
    assert "macro_f1" in str(caught.value.hint)
    with pytest.raises(SpecError, match="a number is missing"):
        make_filter("accuracy>")


def test_test_metrics_come_before_the_best_of_val(run):
    best = {"epoch": 2, "metric": "val/accuracy", "value": 0.7}
    state = RunState("done", result={"best": best, "test": {"macro_f1": 0.5}, "state": "done"})
    assert describe(run, state, Notes()).metrics == {"accuracy": 0.7, "macro_f1": 0.5}
    state.result["test"]["accuracy"] = 0.6
    assert describe(run, state, Notes("A")).metrics["accuracy"] == 0.6
    assert describe(run, state, Notes("A")).texts["name"] == "a"
