"""Signals to the runner, and its heartbeat."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest
from drivers import Card, driver
from faults.killing import same_outcome
from faults.small_runs import LONG, finish, new_run, start, steps_of, until

from deeptune.checkpoint import load_checkpoint
from deeptune.engine import heartbeat
from deeptune.engine.run_logger import RunLogger
from deeptune.errors import RunStopped
from deeptune.nvml import gpu_of
from deeptune.runs import read_records, run_state
from deeptune.runs.control import request_stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_runner_stores_training_at_the_next_step(left_alone, tmp_path, spec_of, number):
    run = new_run(tmp_path, spec_of(**LONG))
    process = start(run)
    until(lambda: steps_of(run))
    os.kill(process.pid, signal.SIGHUP)  # it is ignored
    os.kill(process.pid, number)
    process.join()
    state = run_state(run)
    assert state.word == "stopped"
    assert (
        f"the run was stopped (by {'SIGTERM' if number == signal.SIGTERM else 'Ctrl+C or SIGINT'}) at step"
        in state.detail
    )
    history = load_checkpoint(run.last).manifest["training"]["history"]
    assert f"at step {history['steps']} of 48" in state.detail
    same_outcome(left_alone, finish(run))


def test_a_second_interrupt_ends_the_runner_at_once(tmp_path, spec_of):
    run = new_run(tmp_path, spec_of(**{**LONG, "epochs": 1000}))
    process = start(run)
    until(lambda: steps_of(run))
    os.kill(process.pid, signal.SIGSTOP)  # so that both are there before the next step
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.001)
    process.join(60)
    assert process.exitcode is not None
    assert run_state(run).word == "stopped"


def test_a_heartbeat_tells_memory_gpus_and_a_request_to_stop(tmp_path, monkeypatch, spec_of):
    monkeypatch.setitem(sys.modules, "pynvml", driver(Card("GPU-aaa"), Card("GPU-bbb")))
    monkeypatch.setattr(heartbeat, "HEARTBEAT_INTERVAL", 0.2)
    monkeypatch.setattr(heartbeat, "REQUEST_INTERVAL", 0.05)
    run = new_run(tmp_path, spec_of())
    logger = RunLogger(run)
    logger.gpu = gpu_of(0, "bbb")  # the run's own, of two
    beside = heartbeat.Heartbeat(run, logger)
    beside.start()
    try:
        until(lambda: any(event["kind"] == "sample" for event in read_records(run.events)))
        request_stop(run, "by the test")
        until(lambda: logger.stop.reason == "asked for by the test")
        until(lambda: json.loads(run.status.read_text())["state"] == "stopping")
    finally:
        beside.stop()
    sample = next(event for event in read_records(run.events) if event["kind"] == "sample")
    assert 0.01 < sample["process_gib"] < 100
    (gpu,) = sample["gpus"]
    assert gpu == {
        "number": 0, "utilisation": 91, "temperature": 55, "memory_gib": 3.0, "total_gib": 80.0,
        "power_watts": 312.5, "power_limit_watts": 400.0, "clock_share": 0.75,
    }  # fmt: skip
    assert not run.stop_request.exists()
    with pytest.raises(RunStopped):
        logger.stop.check()
