"""Whole runs on tiny images, as a spec and from start to end."""

from __future__ import annotations

import pytest
from devices import ON_DEVICE

from deeptune.engine.run import execute
from deeptune.runs import RunDirectory, new_run_directory
from deeptune.spec.toml import validate


def image_spec(method: str = "partial", task: str = "classification", **train) -> dict:
    data = "openclipart7" if task == "classification" else "digits_rotation"
    return {
        "task": task,
        "data": {"path": f"sample:{data}", "split": {"train": 0.2, "val": 0.1, "test": 0.7}},
        "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
        "tuning": {"method": method},
        "train": {"start": "head", "epochs": 2, **ON_DEVICE, "workers": 0, **train},
    }


def run(spec: dict, root, *, report: bool = True) -> RunDirectory:
    """Do a run from start to end; without `report.html`, in half the time."""
    directory = new_run_directory(root, "test")
    with pytest.MonkeyPatch.context() as patch:
        if not report:
            patch.setattr("deeptune.engine.run.write_report", lambda path: None)
        execute(validate(spec), directory)
    return directory
