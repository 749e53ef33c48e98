"""A finished run's model is used on a file from inside: as a process, with progress, the result, and whole errors."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from driving import drive, monitor, picture, shows, until
from textual.widgets import Input, OptionList

from deeptune.formatting import size_text
from tui.app import DeepTuneApp
from tui.command_process import Application, Progress, command_of
from tui.options import Options
from tui.screens.pick import PickScreen
from tui.screens.use import UseScreen, proposed

LOADING = 180.0  # seconds that a process may take that loads PyTorch on a busy machine


def letters(text: str) -> str:
    return re.sub(r"\s+", "", text)


async def opened(pilot, verb: str, data: Path) -> None:
    """Open the page for a verb with a file typed and the cursor in the place of the result."""
    app = pilot.app
    await shows(pilot, "✓ done")
    app.open_use(app.screen.run, verb)
    await until(pilot, lambda: isinstance(app.screen, PickScreen))
    await pilot.press("escape")
    await until(pilot, lambda: isinstance(app.screen, UseScreen))
    app.screen.query_one("#data", Input).value = str(data)
    app.screen.query_one("#output", Input).focus()
    await pilot.pause()


def test_predictions_are_written_for_a_file_that_is_picked(finished_run, pictures_parquet, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures_parquet.parent)
    app = monitor(finished_run)

    async def steps(pilot):
        await pilot.press("5")
        await shows(pilot, "predict the rows of a file")
        await until(pilot, lambda: app.screen.query_one("#next", OptionList).has_focus)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PickScreen))
        await shows(pilot, f"  {size_text(pictures_parquet.stat().st_size)}")  # that of a small file is not 0.0 MB
        await shows(pilot, "pictures.parquet")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, UseScreen))
        assert app.screen.query_one("#output", Input).value.endswith("pictures-predictions.parquet")
        output = tmp_path / "out.parquet"
        app.screen.query_one("#output", Input).value = str(output)
        await pilot.press("enter")
        await shows(pilot, "wrote 48 predictions to", seconds=LOADING)
        assert "✓ /" in picture(app)  # on one line, which a long path does not fit in
        assert letters(f"predictions to {output}") in letters(picture(app))
        assert pq.read_table(output).num_rows == 48
        await pilot.press("ctrl+y")
        await until(pilot, lambda: app.clipboard == str(output))

    drive(app, steps)


def test_unsure_rows_are_left_out_and_sets_cover_as_asked(finished_run, pictures_parquet, tmp_path):
    app = monitor(finished_run)
    output = tmp_path / "out.parquet"

    async def steps(pilot):
        await opened(pilot, "predict", pictures_parquet)
        app.screen.query_one("#output", Input).value = str(output)
        await pilot.press("tab", *"1.5", "enter")
        await until(
            pilot, lambda: any("'1.5' is not a number from 0 to 1" in one.message for one in app._notifications)
        )
        assert app.screen.query_one("#abstain-below").has_focus
        assert not app.screen.working
        await pilot.press("ctrl+u", "1", "tab", *"0.8", "enter")
        await shows(pilot, "wrote 48 predictions to", seconds=LOADING)

    drive(app, steps)
    by_hand = tmp_path / "by_hand.parquet"
    words = ["predict", str(finished_run.path), "--data", str(pictures_parquet), "--output", str(by_hand)]
    options = ["--abstain-below", "1", "--coverage", "0.8", "--quiet"]
    subprocess.run([sys.executable, "-m", "deeptune", *words, *options], check=True)
    assert pq.read_table(output).equals(pq.read_table(by_hand))
    assert any(pq.read_table(output)["abstained"].to_pylist())


def test_arrow_keys_go_from_field_to_field_and_back_from_the_outcome(finished_run, tmp_path):
    app = monitor(finished_run)
    missing = tmp_path / "missing.parquet"

    async def steps(pilot):
        await opened(pilot, "embed", missing)
        await pilot.press("up", "end", "x")
        assert app.screen.query_one("#data", Input).value == f"{missing}x"
        await pilot.press("down", "end", "y", "enter")
        await shows(pilot, "it failed", seconds=LOADING)
        await until(pilot, lambda: app.screen.query_one("#outcome").has_focus)
        await pilot.press("up")
        assert app.screen.query_one("#output", Input).has_focus

    drive(app, steps)


def test_only_predictions_take_a_confidence(finished_run, pictures_parquet):
    app = monitor(finished_run)

    async def steps(pilot):
        await opened(pilot, "embed", pictures_parquet)
        assert "abstain" not in picture(app)

    drive(app, steps)


def test_the_scores_on_a_labelled_file_are_shown_and_written(finished_run, pictures_parquet, tmp_path):
    app = monitor(finished_run)
    output = tmp_path / "scores.json"

    async def steps(pilot):
        await opened(pilot, "evaluate", pictures_parquet)
        app.screen.query_one("#output", Input).value = str(output)
        await pilot.press("enter")
        await shows(pilot, "Balanced accuracy", seconds=LOADING)
        assert f"{json.loads(output.read_text())['balanced_accuracy']:.3f}" in picture(app)

    drive(app, steps)


def test_an_error_is_shown_whole_and_the_files_stay_as_they_were(finished_run, tmp_path):
    app = monitor(finished_run)
    output = tmp_path / "out.parquet"
    output.write_text("of somebody else")

    async def steps(pilot):
        await opened(pilot, "embed", tmp_path / "there-is-no-such-file.parquet")
        app.screen.query_one("#output", Input).value = str(output)
        await pilot.press("enter")
        await shows(pilot, "Replace the file?")
        await pilot.press("right", "enter")
        await shows(pilot, "it failed (exit code 3)", seconds=LOADING)
        assert letters("data error: --data: there is no file") in letters(picture(app))
        assert output.read_text() == "of somebody else"

    drive(app, steps)


def test_it_is_cancelled_and_nothing_is_written(finished_run, pictures_parquet, tmp_path, monkeypatch):
    monkeypatch.setattr("tui.screens.use.command_of", lambda *_: [sys.executable, "-c", "import time; time.sleep(600)"])
    app = monitor(finished_run)

    async def steps(pilot):
        await opened(pilot, "predict", pictures_parquet)
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.working)
        process = app.screen._application._process
        await pilot.press("escape")
        await shows(pilot, "Cancel predict?")
        await pilot.press("escape")
        assert app.screen.working
        await pilot.press("ctrl+x")
        await shows(pilot, "cancelled: nothing was written")
        assert process.returncode is not None

    drive(app, steps)


def test_a_read_only_session_is_not_offered_to_use_a_model(finished_run):
    app = monitor(finished_run, read_only=True)

    async def steps(pilot):
        await pilot.press("5")
        await shows(pilot, "deeptune predict")
        assert "predict the rows of a file" not in picture(app)
        app.open_use(finished_run, "predict")
        await pilot.pause()
        assert not isinstance(app.screen, UseScreen)

    drive(app, steps)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("sample:films", "films-predictions.parquet"),
        ("/a/b.parquet", "b-predictions.parquet"),
        ("/a/c", "c-predictions.parquet"),
        ("/a/*.parquet", "data-predictions.parquet"),
    ],
)
def test_the_proposed_result_is_named_after_the_data_and_replaces_nothing(tmp_path, monkeypatch, data, name):
    monkeypatch.chdir(tmp_path)
    assert proposed(data, "predict") == tmp_path / name
    (tmp_path / name).touch()
    assert proposed(data, "predict") == tmp_path / name.replace("predictions", "predictions-2")


def test_what_a_process_says_is_progress_or_told(finished_run):
    lines = ['{"progress": {"what": "reading", "done": 3, "total": 9}}', "a warning", '{"progress": "not one"}', "end"]
    script = f"import sys; sys.stderr.write({chr(10).join(lines)!r}); print('printed'); sys.exit(3)"
    counted: list[Progress] = []
    told: list[str] = []

    async def go():
        return await Application(counted.append, told.append).run([sys.executable, "-c", script])

    import asyncio

    assert asyncio.run(go()) == (3, "printed\n")
    assert counted == [Progress("reading", 3, 9)]
    assert told == ["a warning", '{"progress": "not one"}', "end"]


def test_the_command_is_one_that_a_person_could_type(finished_run, tmp_path):
    command = command_of(finished_run, "evaluate", "x.parquet", tmp_path / "o.json")
    words = command[command.index("deeptune") + 1 :]
    assert words == ["evaluate", str(finished_run.path), "--data", "x.parquet", "--output", str(tmp_path / "o.json"),
                     "--json-progress", "--json"]  # fmt: skip


def test_a_process_ends_with_the_session_that_hangs_up(tmp_path):
    async def go() -> None:
        application = Application(lambda _: None, lambda _: None)
        running = asyncio.create_task(application.run(["sleep", "60"]))
        while application not in Application.running:
            await asyncio.sleep(0.01)
        DeepTuneApp(Options(root=tmp_path)).end_processes()  # what the handler of SIGHUP calls
        code, _ = await asyncio.wait_for(running, 20)
        assert code == -signal.SIGKILL
        assert not Application.running

    asyncio.run(go())
