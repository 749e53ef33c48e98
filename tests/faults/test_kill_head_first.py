"""A run that is killed or stopped while its head is fitted ends with the same bits, and one whose head is damaged."""

from __future__ import annotations

import json
import time

import pytest
from faults.killing import finish, kill, same_outcome, small_sample, start, wait
from faults.test_kill_and_resume import make_spec, new_run

from deeptune.runs import RunDirectory, read_records
from deeptune.runs.control import request_stop


@pytest.fixture(scope="module")
def spec(tmp_path_factory, review_bert):
    folder = tmp_path_factory.mktemp("data")
    small_sample("movie_snippets", folder / "texts.parquet")
    return make_spec(folder, review_bert, "text", "lora", early_stopping={"patience": 0})


@pytest.fixture(scope="module")
def alone(tmp_path_factory, spec) -> RunDirectory:
    """The run that nobody disturbed."""
    return finish(new_run(tmp_path_factory.mktemp("alone"), spec))


def phases(run: RunDirectory) -> list[str]:
    return [event["phase"] for event in read_records(run.events) if event["kind"] == "phase"]


def until_phase(run: RunDirectory, phase: str):
    """A process that does the run and has come to a phase."""
    process = start(run)
    while not (run.events.exists() and phase in phases(run)):
        assert process.is_alive()
        time.sleep(0.002)
    return process


def test_killed_while_the_head_is_fitted(alone, tmp_path, spec):
    run = new_run(tmp_path, spec)
    for _ in range(2):
        kill(until_phase(run, "head"))
    same_outcome(alone, finish(run))
    assert phases(run).count("head") >= 2


def test_stopped_while_the_head_is_fitted(alone, tmp_path, spec):
    run = new_run(tmp_path, spec)
    process = until_phase(run, "head")
    request_stop(run, "by the test")
    wait(process)
    result = json.loads(run.result.read_text())
    if result["state"] == "stopped" and not run.head.exists():
        assert "while its head was fitted: resumed, it fits it again" in result["message"]
    same_outcome(alone, finish(run))


def test_a_damaged_head_is_fitted_again(alone, tmp_path, spec):
    run = new_run(tmp_path, spec)
    process = start(run)
    while not (run.last / "manifest.json").exists():
        time.sleep(0.005)
    kill(process)
    (run.head / "training.safetensors").write_bytes(b"")
    same_outcome(alone, finish(run))
    told = [event["message"] for event in read_records(run.events) if event["kind"] == "warning"]
    assert any("the head is fitted again" in message for message in told)
