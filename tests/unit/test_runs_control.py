"""Asking a runner to stop, and its answer."""

from __future__ import annotations

import os
import signal

import pytest
from runners import holding

from deeptune.errors import CheckpointError, RunStopped
from deeptune.runs import new_run_directory
from deeptune.runs.control import StopFlag, request_stop, take_stop_request
from deeptune.runs.files import read_json


@pytest.fixture
def run(tmp_path):
    return new_run_directory(tmp_path, "test")


def test_the_first_reason_to_stop_holds():
    flag = StopFlag()
    flag.check()
    flag.request("by SIGTERM")
    flag.request("by another")
    with pytest.raises(RunStopped, match=r"stopped \(by SIGTERM\)"):
        flag.check()


def test_a_request_is_taken_once_and_says_who_asked(run):
    assert take_stop_request(run) is None
    request_stop(run, "by the test")
    assert read_json(run.stop_request)["by"]["pid"] == os.getpid()
    request_stop(run, "by the test")  # twice is once
    assert take_stop_request(run) == "by the test"
    assert take_stop_request(run) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"who": 3}', "{}"])
def test_a_request_by_hand_is_one_too(run, text):
    run.stop_request.write_text(text)
    assert take_stop_request(run) == "by the file stop.json"
    assert take_stop_request(run) is None


def test_a_request_that_cannot_be_written_is_a_signal(run):
    """As on a full disk, which is one reason to stop a run."""
    run.control.rmdir()
    run.control.write_text("no folder")
    with pytest.raises(CheckpointError, match="cannot write"):
        request_stop(run, "by the test")  # nobody to send one to
    with holding(run) as pid:
        request_stop(run, "by the test")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    with pytest.raises(CheckpointError, match="cannot write"):
        request_stop(run, "by the test")
