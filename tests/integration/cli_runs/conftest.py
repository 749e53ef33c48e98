"""Runs in any state, made without a runner."""

from __future__ import annotations

import json
import time

import pytest
from run_commands import STATUS

from deeptune.runs import new_run_directory, write_json, write_text
from deeptune.runs.lock import run_lock


@pytest.fixture
def make(tmp_path, monkeypatch):
    """`make("name", ...)` makes a run whose runner is gone, with this status, result and owner of the lock."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, *, result: dict | None = None, status: dict | None = None, **owner):
        run = new_run_directory(tmp_path / "runs", name)
        write_text(run.spec, '[data]\npath = "x.parquet"\n[backbone]\nname = "resnet18"\n')
        with run_lock(run):
            pass
        run.lock.write_text(json.dumps({**json.loads(run.lock.read_text()), **owner}))
        write_json(run.status, {"state": "running", "pid": 1, "heartbeat": time.time() - 3, **STATUS, **(status or {})})
        if result is not None:
            write_json(run.result, result)
        return run

    return write
