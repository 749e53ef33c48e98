"""The numbers of a run over its time, and what they warn of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from deeptune.runs import RunDirectory
from deeptune.runs.events import Event, ResumeEvent, RunEvent, StepEvent, WarningEvent, event_from_json
from deeptune.show.history import History, Track, overfitting, plateau
from deeptune.show.view import View

START = 1_790_000_000.0


def read(kind: str, **values: Any) -> Event:
    event = event_from_json({"seq": 1, "t": START, "kind": kind, **values})
    assert event is not None
    return event


def step(number: int, *, per_epoch: int = 10, **values: Any) -> Event:
    epoch, place = divmod(number - 1, per_epoch)
    where = {"t": START + number, "step": number, "epoch": epoch + 1, "epoch_step": place + 1}
    numbers = {"loss": 1 / number, "learning_rate": 1e-3, "rate": 10.0}
    return read("step", **{**where, "epoch_steps": per_epoch, "epochs": 100, **numbers, **values})


def epoch(number: int, train: float, val: float | None, *, per_epoch: int = 10, **scores: float) -> Event:
    losses = {"train": {"loss": train}, "val": {"loss": val, **scores}}
    return read("epoch", t=START + per_epoch * number, epoch=number, epochs=100, **losses)


def test_columns_are_as_long_as_their_steps_whatever_an_event_lacks() -> None:
    track = Track()
    track.know(["loss"])
    track.add(1, 0.1, 5.0, {"loss": 2.0})
    track.know(["loss", "rate"])
    track.add(2, 0.2, 4.0, {"loss": None, "rate": 7.0})  # the clock was put back
    track.add(3, 0.3, 6.0, {"rate": True, "other": "text"})
    assert list(track.step) == [1, 2, 3]
    assert list(track.time) == [5, 5, 6]
    assert [str(value) for value in track.values["loss"]] == ["2.0", "nan", "nan"]
    assert [str(value) for value in track.values["rate"]] == ["nan", "7.0", "nan"]


def test_what_is_trained_again_takes_the_place_of_what_was() -> None:
    view = View(RunDirectory(Path("nowhere")))
    view.take(RunEvent(t=START))
    for number in range(1, 26):
        view.take(step(number))
        if number % 10 == 0:
            view.take(epoch(number // 10, 1.0, 1.0))
    view.take(RunEvent(t=START + 1000))
    view.take(ResumeEvent(20, 3, t=START + 1001))
    assert list(view.history.steps.step) == list(range(1, 21))
    assert list(view.history.epochs.epoch) == [1, 2]
    view.take(step(21, t=START + 1003))
    # 25 s of the first attempt and 3 of the second; what lies between was no time of the run's.
    assert view.history.steps.time[-1] == pytest.approx(28)
    view.take(step(5, loss=9.0))  # as from a log that was put together from two
    assert list(view.history.steps.step) == [1, 2, 3, 4, 5]
    assert view.history.steps.values["loss"][-1] == 9.0


@pytest.mark.parametrize("damage", [{"step": 10**400}, {"epoch": -(10**400)}, {"loss": 10**400}])
def test_numbers_that_nobody_can_reckon_with_are_passed_over(damage: dict[str, Any]) -> None:
    line = {"seq": 1, "t": START, "kind": "step", **step(1).content()}
    assert event_from_json({**line, **damage}) is None
    without = event_from_json({**line, "gradient_norm": 10**400})  # a step may have none
    assert isinstance(without, StepEvent)
    assert without.gradient_norm is None
    view = View(RunDirectory(Path("nowhere")))
    view.take(step(1, gradient_norm=10**300))
    assert len(view.history.steps) == 1
    view.take(read("sample", process_gib=1.0, free_gib=2.0, cpu_percent=10**400))
    assert "cpu_percent" not in view.history.samples.values


def test_samples_of_devices_become_columns() -> None:
    history = History()
    gpu = {"utilisation": 90, "temperature": 60, "memory_gib": 3.5, "total_gib": 24}
    for gpus in ([gpu, gpu], "nonsense", [None, {**gpu, "utilisation": "hot"}]):
        history.take(read("sample", process_gib=1.0, free_gib=2.0, gpus=gpus), 1.0, None)
    assert history.samples.values["gpu0/utilisation"][0] == 90
    assert [math.isnan(value) for value in history.samples.values["gpu1/utilisation"]] == [False, True, True]
    assert list(history.samples.values["process_gib"]) == [1.0, 1.0, 1.0]


def test_a_gpu_has_its_own_number_and_what_it_does_not_tell_is_no_value() -> None:
    history = History()
    gpu = {"number": 3, "temperature": 60, "power_watts": 200.0}
    history.take(read("sample", process_gib=1.0, free_gib=2.0, gpus=[gpu]), 1.0, None)
    assert history.samples.values["gpu3/power_watts"][0] == 200.0
    assert "gpu3/utilisation" not in history.samples.values


def test_a_plateau_is_told_once_at_its_step_and_again_after_it_was_left() -> None:
    history = History()
    losses = [1.0, 0.5, 0.4, *[0.41] * 5, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]
    alerts = []
    for number, loss in enumerate(losses, start=1):
        history.take(step(number * 10), number * 10.0, None)
        history.take(epoch(number, loss, loss), number * 10.0, None)
        alerts.append(history.alert.text.split(":")[0] if history.alert else "")
    assert alerts == [""] * 7 + ["plateau"] + [""] * 5 + ["plateau"]
    told = [(note.kind, note.step) for note in history.notes]
    assert told == [("alert", 80), ("alert", 140)]


def test_overfitting_needs_val_to_rise_and_train_to_fall_for_some_epochs() -> None:
    train = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3]
    assert overfitting(train, [1.0, 0.9, 0.8, 0.85, 0.86, 0.9])
    assert not overfitting(train, [1.0, 0.9, 0.8, 0.83, 0.86, 0.9])  # 0.83 is within 5% of 0.8
    assert not overfitting([1.0, 0.8, 0.2, 0.5, 0.4, 0.3], [1.0, 0.9, 0.8, 0.85, 0.86, 0.9])  # train has risen too
    assert not overfitting(train[:5], [1.0, 0.9, 0.8, 0.85, 0.86])
    assert not overfitting(train, [math.nan] * 6)
    assert overfitting(train, [-0.2, -0.9, -1.0, -0.9, -0.9, -0.9])


def test_small_steps_down_are_no_plateau() -> None:
    assert not plateau([1 - 0.002 * number for number in range(20)])
    assert plateau([1 - 0.0001 * number for number in range(20)])
    assert not plateau([1.0] * 5)
    assert plateau([1.0] * 6)
    assert not plateau([math.nan] * 20)


def test_a_loss_that_is_not_finite_is_noted() -> None:
    view = View(RunDirectory(Path("nowhere")))
    view.take(step(10))
    view.take(epoch(1, 1.0, None))
    view.take(WarningEvent("the loss is nan at step 11", t=START))
    assert [(note.kind, note.step) for note in view.history.notes] == [("warning", 10), ("warning", 10)]
    assert "epoch 1 is not finite" in view.history.notes[0].text
    assert math.isnan(view.history.epochs.values["val/loss"][0])


def test_the_spread_of_the_pace_is_that_of_recent_steps() -> None:
    history = History()
    time = 0.0
    for number in range(1, 41):
        time += 2.0 if number % 5 == 0 else 1.0
        history.take(step(number), time, None)
    assert history.pace_spread() == (1.0, 2.0)
    history.take(ResumeEvent(40, 5), time, None)
    assert history.pace_spread() is None  # nothing of the attempt in progress yet
    for number in range(41, 47):
        time += 3.0
        history.take(step(number), time, None)
    assert history.pace_spread() == (1.0, 1.0)
