"""The kinds of events: what is written of each, and what is read in spite of damage and of other versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deeptune.runs import EventWriter, read_events, read_records
from deeptune.runs.event_log import EventReader
from deeptune.runs.events import (
    KINDS,
    CheckpointEvent,
    EndEvent,
    EpochEvent,
    Event,
    Gpu,
    MessageEvent,
    MetricsEvent,
    Parameters,
    PhaseEvent,
    ResumeEvent,
    Rows,
    RunEvent,
    SampleEvent,
    StartEvent,
    StepEvent,
    StoppingEvent,
    UnknownEvent,
    WarningEvent,
    event_from_json,
)

NAN = float("nan")
EARLIER = Path(__file__).parent.parent / "data" / "version_0_1"
# Each kind as it is in the log of every version.
WRITTEN: list[tuple[Event, dict[str, Any]]] = [
    (RunEvent("a-1", started=1.5, pid=7), {"id": "a-1", "started": 1.5, "pid": 7}),
    (PhaseEvent("data"), {"phase": "data"}),
    (
        StartEvent(
            task="regression", backbone="b", weights="random", method="full", device="cpu", device_reason="asked",
            rows=Rows(8, 1, 0), parameters=Parameters(2, 3), steps=4, epochs=2, metric="val/loss", patience=0,
        ),
        {
            "task": "regression", "backbone": "b", "weights": "random", "method": "full", "device": "cpu",
            "device_reason": "asked", "rows": {"train": 8, "val": 1, "test": 0},
            "parameters": {"trainable": 2, "total": 3}, "steps": 4, "epochs": 2, "metric": "val/loss", "patience": 0,
        },
    ),
    (ResumeEvent(0, 1), {"step": 0, "epoch": 1}),
    (
        StepEvent(1, 1, 1, 2, 3, NAN, 9.5, 0.0, 0.1, 1.0, memory={"process_gib": 1.5}),
        {
            "step": 1, "epoch": 1, "epoch_step": 1, "epoch_steps": 2, "epochs": 3, "loss": None, "learning_rate": 0.1,
            "gradient_norm": 1.0, "rate": 9.5, "waiting": 0.0, "memory": {"process_gib": 1.5},
        },
    ),
    (
        EpochEvent(1, 3, {"loss": 0.5}, learning_rate=0.0, seconds=1.0, best=False),
        {"epoch": 1, "epochs": 3, "train": {"loss": 0.5}, "learning_rate": 0.0, "seconds": 1.0, "best": False},
    ),
    (
        EpochEvent(1, 3, {"loss": 0.5}, 0.1, 1.0, skipped_steps=2, val={"loss": NAN, "accuracy": 1.0}, best=True),
        {
            "epoch": 1, "epochs": 3, "train": {"loss": 0.5}, "learning_rate": 0.1, "seconds": 1.0, "skipped_steps": 2,
            "val": {"loss": None, "accuracy": 1.0}, "best": True,
        },
    ),
    (
        CheckpointEvent("best", 2, metric="val/loss", value=None),
        {"which": "best", "epoch": 2, "metric": "val/loss", "value": None},
    ),
    (CheckpointEvent("last", 2, step=9), {"which": "last", "epoch": 2, "step": 9}),
    (SampleEvent(1.0, 2.0, 0.0), {"process_gib": 1.0, "free_gib": 2.0, "cpu_percent": 0.0}),
    (
        SampleEvent(1.0, 2.0, 99.0, gpus=(Gpu(90, 60, 1.0, 24.0),)),
        {
            "process_gib": 1.0, "free_gib": 2.0, "cpu_percent": 99.0,
            "gpus": [{"utilisation": 90, "temperature": 60, "memory_gib": 1.0, "total_gib": 24.0}],
        },
    ),
    (WarningEvent("x"), {"message": "x"}),
    (MessageEvent(""), {"message": ""}),
    (StoppingEvent("by SIGTERM"), {"reason": "by SIGTERM"}),
    (MetricsEvent("val", {"n": 3, "r2": NAN}), {"split": "val", "metrics": {"n": 3, "r2": None}}),
    (EndEvent("stopped", "by SIGTERM"), {"state": "stopped", "message": "by SIGTERM"}),
    (EndEvent("done", test={}), {"state": "done", "test": {}}),
]  # fmt: skip


def test_every_kind_is_looked_at() -> None:
    assert {type(event) for event, _ in WRITTEN} == set(KINDS.values())


@pytest.mark.parametrize(("event", "content"), WRITTEN, ids=lambda value: getattr(value, "kind", ""))
def test_an_event_is_written_with_the_keys_of_its_kind_and_read_again(tmp_path, event, content) -> None:
    log = EventWriter(tmp_path / "events.jsonl")
    log.write(event)
    (record,) = read_records(tmp_path / "events.jsonl")
    assert {key: value for key, value in record.items() if key not in ("v", "seq", "t", "kind")} == content
    assert (record["v"], record["seq"], record["kind"]) == (1, 1, event.kind)
    (read,) = read_events(tmp_path / "events.jsonl")
    assert type(read) is type(event)
    assert json.loads(json.dumps(read.to_json())) == record


STEP = {
    "step": 1, "epoch": 1, "epoch_step": 1, "epoch_steps": 2, "epochs": 1, "loss": None, "learning_rate": 1.0, "rate": 2
}  # fmt: skip
START = WRITTEN[2][1]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"kind": "step", **STEP}, [{"loss": "x"}, {"step": None}, {"epoch": 1.5}, {"rate": True}, {"step": 10**400}]),
        (
            {"kind": "epoch", "epoch": 1, "epochs": 2, "train": {"loss": 1.0}},
            [{"train": None}, {"train": {"loss": "x"}}, {"val": 3}, {"val": {"loss": "x"}}],
        ),
        ({"kind": "phase", "phase": "data"}, [{"phase": None}, {"t": -1}, {"t": 1e300}, {"t": "1"}, {"kind": []}]),
        ({"kind": "start", **START}, [{"rows": {"train": 1}}, {"parameters": None}, {"steps": 0.5}]),
        ({"kind": "of the future"}, [{"t": float("nan")}]),
    ],
)
def test_an_event_is_read_or_counted_as_damaged(tmp_path, good, bad) -> None:
    file = tmp_path / "events.jsonl"
    event = {"v": 1, "seq": 1, "t": 1.0, **good}
    lines = [event, *({**event, "seq": number, **changes} for number, changes in enumerate(bad, start=2))]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    reader = EventReader(file)
    assert [event.seq for event in reader.poll()] == [1]
    assert (reader.broken, reader.last) == (len(bad), len(lines))


def test_what_a_later_version_adds_is_passed_over() -> None:
    event = event_from_json({"v": 2, "seq": 1, "t": 1.0, "kind": "step", **STEP, "energy": 3, "to_json": 4})
    assert isinstance(event, StepEvent)
    assert event == StepEvent(1, 1, 1, 2, 1, None, 2, None, 1.0, None, t=1.0, seq=1)
    assert "energy" not in event.to_json()
    unknown = event_from_json({"v": 2, "seq": 1, "t": 1.0, "kind": "weather", "wind": {"from": "east"}})
    assert isinstance(unknown, UnknownEvent)
    assert unknown.to_json() == {"v": 1, "seq": 1, "t": 1.0, "kind": "weather", "wind": {"from": "east"}}


def test_a_field_that_may_be_missing_may_be_wrong() -> None:
    sample = {"seq": 1, "t": 1.0, "kind": "sample", "process_gib": 1.0, "free_gib": 2.0}
    assert event_from_json({**sample, "cpu_percent": 10**400, "gpus": "none"}) == SampleEvent(1.0, 2.0, t=1.0, seq=1)
    event = event_from_json({**sample, "gpus": [None, {"utilisation": 3, "temperature": "hot", "model": "x"}]})
    assert event == SampleEvent(1.0, 2.0, gpus=(Gpu(), Gpu(utilisation=3)), t=1.0, seq=1)


@pytest.mark.parametrize("run", ["finished", "stopped"])
def test_logs_of_an_earlier_version_are_read_whole(run) -> None:
    file = EARLIER / run / "events.jsonl"
    reader = EventReader(file)
    events = list(reader.poll())
    assert reader.broken == 0
    assert not any(isinstance(event, UnknownEvent) for event in events)
    assert [event.to_json() for event in events] == read_records(file)
