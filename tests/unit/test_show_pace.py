"""The time that a phase which counts its rows will take."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from deeptune.formatting import count_text
from deeptune.runs import RunDirectory, RunState
from deeptune.runs.events import PhaseEvent, RunEvent
from deeptune.show.dashboard import dashboard
from deeptune.show.pace import Pace
from deeptune.show.view import View


def seen(*counts: tuple[float, int], total: int = 1000) -> Pace:
    pace = Pace()
    for moment, done in counts:
        pace.see("features", moment, done, total)
    return pace


def test_the_time_to_go_goes_by_the_rate_that_was_seen() -> None:
    assert seen((100, 0), (110, 200)).to_go(110) == pytest.approx(40)
    assert seen((100, 0), (110, 200)).to_go(115) == pytest.approx(35)


def test_rows_that_were_there_before_it_was_watched_are_not_counted_as_fast() -> None:
    assert seen((100, 800), (110, 900)).to_go(110) == pytest.approx(10)


def test_the_rate_is_that_of_the_last_minute() -> None:
    slow = [(float(moment), moment) for moment in range(0, 200, 10)]
    fast = [(200.0 + moment, 200 + 5 * moment) for moment in range(0, 101, 10)]
    assert seen(*slow, *fast).to_go(300) == pytest.approx(60, abs=1)


@pytest.mark.parametrize("counts", [[], [(100, 5)], [(100, 5), (101, 50)], [(100, 5), (110, 5)]])
def test_too_little_tells_nothing(counts: list[tuple[float, int]]) -> None:
    assert seen(*counts).to_go(120) is None


def test_another_pass_begins_anew() -> None:
    pace = seen((100, 0), (110, 900))
    pace.see("features", 111, 10, 1000)
    assert pace.to_go(112) is None


def test_the_dashboard_tells_the_time_to_go_while_features_are_computed(tmp_path, monkeypatch) -> None:
    view = View(RunDirectory(tmp_path))
    view.take(RunEvent("a", 100, 1, t=100.0))
    view.take(PhaseEvent("features", t=101.0))
    for moment, done in ((110.0, 100), (130.0, 300)):
        status = {"phase": "features", "progress": {"done": done, "total": 1000}, "heartbeat": moment}
        view.see(RunState("running", "", True, status))
    monkeypatch.setattr("deeptune.show.viewer.time.time", lambda: 130.0)
    out = io.StringIO()
    Console(file=out, width=100).print(dashboard(view, 100))
    assert "0:30  about 1:10 to go" in out.getvalue()


def test_large_counts_are_told_in_short() -> None:
    assert [count_text(count) for count in (12_810, 3_400_000, 999_960_000)] == ["12,810", "3.4 M", "1.0 B"]
