"""What tests of the monitor write into the log and the predictions of a run."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deeptune.runs import EventWriter, RunDirectory

STEP = {"loss": 0.5, "learning_rate": 1e-3, "gradient_norm": 1.5, "rate": 88.0, "waiting": 0.25}
START = {
    "backbone": "resnet18", "weights": "random", "method": "full", "device": "cpu", "device_reason": "as asked",
    "steps": 100, "metric": "val/loss", "rows": {"train": 80, "val": 10, "test": 10},
    "parameters": {"trainable": 11, "total": 11},
}  # fmt: skip


def write_wrong(run: RunDirectory) -> None:
    """Make the first test row one that was predicted wrongly, and with the greatest confidence."""
    table = pq.read_table(run.predictions).to_pylist()
    table[0] |= {"truth": "nothing like it", "confidence": 0.99}
    pq.write_table(pa.Table.from_pylist(table), run.predictions)


def write_steps(log: EventWriter, *numbers: int, **values: Any) -> None:
    for number in numbers:
        place = {"step": number, "epoch": (number - 1) // 10 + 1, "epoch_step": (number - 1) % 10 + 1}
        log.record("step", **place, epoch_steps=10, epochs=10, **{**STEP, **values})


def write_epoch(log: EventWriter, number: int, train: float, val: float | None, **scores: float) -> None:
    log.record("epoch", epoch=number, epochs=10, train={"loss": train}, val={"loss": val, **scores}, best=False)
