"""Real runs for the terminal interface to show, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png

from deeptune.runs import EventWriter, RunDirectory, new_run_directory, write_json, write_text
from tui.app import DeepTuneApp
from tui.options import Options


@pytest.fixture(autouse=True)
def _a_home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No draft, no keys and no terminal of whoever runs the tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("NO_COLOR", "SSH_CONNECTION", "SSH_TTY", "TERM_PROGRAM", "KITTY_WINDOW_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def pictures_parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures of three colours, one of whose names looks like markup."""
    colours = {"red": (200, 30, 30), "[b]green[/b]": (30, 160, 60), "blue": (40, 60, 210)}
    names = [list(colours)[row % 3] for row in range(48)]
    shades = [tuple(min(255, part + 3 * (row % 7)) for part in colours[name]) for row, name in enumerate(names)]
    path = tmp_path_factory.mktemp("data") / "pictures.parquet"
    pq.write_table(pa.table({"images": [png(24, 16, shade) for shade in shades], "labels": names}), path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, pictures_parquet: Path) -> RunDirectory:
    """A run from start to end: a random ResNet-18 at 32 px, three epochs. Copy it before you change it."""
    from deeptune.engine.run import execute
    from deeptune.spec import dump_spec
    from deeptune.spec.toml import validate

    spec = validate(
        {
            "name": "pictures",
            "data": {"path": str(pictures_parquet)},
            "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
            "train": {"epochs": 3, "batch_size": 8, "device": "cpu", "workers": 0},
        }
    )
    run = new_run_directory(tmp_path_factory.mktemp("runs"), "pictures")
    write_text(run.spec, dump_spec(spec))
    execute(spec, run)
    return run


@pytest.fixture
def finished_run(trained: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of a finished run with an id that is always the same, in a folder of its own: `tmp_path/runs`."""
    copy = tmp_path / "runs" / "pictures-20260921-101500-abc123"
    shutil.copytree(trained.path, copy)
    return RunDirectory(copy)


@pytest.fixture
def made(finished_run: RunDirectory) -> RunDirectory:
    """A run directory whose log is still empty: as of a run that has just begun."""
    for path in (finished_run.events, finished_run.result, finished_run.metrics, finished_run.predictions):
        path.unlink()
    return finished_run


@pytest.fixture
def failed(made: RunDirectory) -> RunDirectory:
    """A run whose data was refused, with an error of many long lines, before its first step."""
    rows = [f"  row {row} is not an image in a format that PIL opens, or its beginning is damaged" for row in range(8)]
    told = {
        "title": "data error",
        "message": "\n".join(["data.input: 8 of 48 samples in column 'images' cannot be used:", *rows]),
        "hint": "Repair them, or set data.on_bad_sample to leave them out. The end of the hint.",
    }
    whole = f"{told['message']}\n{told['hint']}"
    log = EventWriter(made.events)
    log.record("run", id=made.id, started=0, pid=1)
    log.record("phase", phase="data")
    log.record("end", state="failed", message=whole)
    write_json(made.result, {"state": "failed", "message": whole, "error": told, "seconds": 1.0})
    return made


@pytest.fixture
def opened(monkeypatch) -> list[RunDirectory]:
    """The runs whose monitor was opened."""
    found: list[RunDirectory] = []
    monkeypatch.setattr(DeepTuneApp, "open_monitor", lambda self, run: found.append(run))
    return found


@pytest.fixture
def app(tmp_path) -> DeepTuneApp:
    return DeepTuneApp(Options(root=tmp_path / "runs"))
