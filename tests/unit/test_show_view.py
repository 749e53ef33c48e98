"""The phases of a run that viewers show."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

import deeptune
from deeptune.runs import RunDirectory
from deeptune.runs.events import PhaseEvent
from deeptune.show.dashboard import dashboard
from deeptune.show.view import PHASE_WORDS, PHASES, View


def view_in(folder: Path, *phases: str) -> View:
    view = View(RunDirectory(folder))
    for phase in phases:
        view.take(PhaseEvent(phase, t=100.0))
    return view


def test_viewers_know_every_phase_that_a_run_enters() -> None:
    files = Path(deeptune.__file__).parent.rglob("*.py")
    entered = {name for file in files for name in re.findall(r'\.phase\("(\w+)"\)', file.read_text(encoding="utf-8"))}
    assert entered == set(PHASES)
    assert set(PHASE_WORDS) == {"starting", *PHASES}


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        ([], "data backbone features train verify test embed report"),
        (["data", "backbone"], "data backbone features train verify test embed report"),
        (["data", "backbone", "train"], "data backbone train verify test embed report"),
        (["data", "features", "head"], "data backbone features head train verify test embed report"),
        (["data", "features", "folds"], "data backbone features folds train verify test embed report"),
    ],
)
def test_a_phase_that_the_run_does_not_have_is_not_shown(tmp_path: Path, seen: list[str], shown: str) -> None:
    assert view_in(tmp_path, *seen).phases() == shown.split()


@pytest.mark.parametrize("seen", [["data"], ["data", "features", "head"], ["data", "features", "head", "folds"]])
def test_the_dashboard_names_all_phases_where_they_fit_in_a_line(tmp_path: Path, seen: list[str]) -> None:
    view = view_in(tmp_path, *seen)
    whole = sum(len(phase) + 3 for phase in view.phases()) - 1 + 4  # with the border
    lines = []
    for width in (whole, whole - 1):
        out = io.StringIO()
        Console(file=out, width=width).print(dashboard(view, width))
        lines.append(out.getvalue().splitlines()[1].strip("│ "))
    assert lines[0].endswith("○ report")
    assert lines[1] == f"● {seen[-1]} ({view.phases().index(seen[-1]) + 1} of {len(view.phases())})"
