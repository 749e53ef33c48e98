"""What tests of commands on runs share: a run's status, and a command in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

STEP = {
    "step": 41, "steps": 100, "epoch": 3, "epochs": 10, "epoch_step": 1, "epoch_steps": 10, "loss": 0.25,
    "learning_rate": 1e-3, "rate": 12.5,
}  # fmt: skip
STATUS = {"phase": "train", "eta": 75.0, "best": {"epoch": 2, "metric": "val/loss", "value": 0.125}, **STEP}


@contextmanager
def started(folder: Path, environment, *arguments: str):
    """The command line in a process of its own, which no terminal watches."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deeptune", *arguments],
        cwd=folder, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
