"""The wizard, by keys alone: from a path to a run."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
from driving import PATIENCE, drive, picture, shows, until
from pictures import png
from textual import events
from textual.widgets import Button, Input
from wizard_driving import open_wizard, paste, read, type_in

from deeptune.runs import run_state
from deeptune.spec import load_spec
from tui import typeahead
from tui.app import DeepTuneApp
from tui.draft import Draft, draft_file
from tui.options import Options
from tui.screens.wizard import WizardScreen
from tui.widgets.wizard.review import Problems


def test_keys_alone_make_and_launch_a_run(app, opened, pictures_parquet, monkeypatch):
    """At 80x24, through all steps: a random ResNet-18 at 32 px, which a runner of its own then trains to its end."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    async def steps(pilot):
        screen = await open_wizard(pilot)
        await type_in(pilot, str(pictures_parquet))
        await shows(pilot, "[b]green[/b]")
        await pilot.press("ctrl+n")
        await shows(pilot, "embedding")
        await type_in(pilot, "resnet1")
        await pilot.press("enter")  # the first row that has the words, and on to the weights
        assert screen.draft.text("backbone.name") == "resnet18"
        await type_in(pilot, "random")
        await pilot.press("down")
        await type_in(pilot, "32")
        await pilot.press("ctrl+n", "right", "down")
        await shows(pilot, "embedding size")
        await type_in(pilot, "16")
        await shows(pilot, "8,259")  # (512 + 1) × 16 + (16 + 1) × 3
        await pilot.press("ctrl+n", "ctrl+n")
        await type_in(pilot, "2")
        await pilot.press("down")
        await type_in(pilot, "8")
        await shows(pilot, "≤ 8 ")  # of 33 rows: the last of five batches would be of one row
        await pilot.press("ctrl+n")
        await shows(pilot, "✓ ready")
        await pilot.press("enter")
        await until(pilot, lambda: opened)
        assert not isinstance(app.screen, WizardScreen)

    drive(app, steps)
    (run,) = opened
    deadline = time.monotonic() + 4 * PATIENCE
    while not run_state(run).over:
        assert time.monotonic() < deadline, run.console.read_text()
        time.sleep(0.2)
    assert run_state(run).word == "done", run.console.read_text()
    spec = load_spec(run.spec)
    assert (spec.backbone.name, spec.backbone.weights, spec.backbone.image_size) == ("resnet18", "random", 32)
    assert (spec.head.layers, spec.head.embedding_size, spec.train.epochs, spec.train.batch_size) == (2, 16, 2, 8)
    told = json.loads(run.run.read_text())
    assert told["argv"][:4] == ["deeptune", "run", "--data", str(pictures_parquet)]
    assert not draft_file().exists()


def test_a_pasted_path_becomes_a_run_in_few_keys(app, opened, pictures_parquet, monkeypatch):
    from deeptune.runs import launch

    monkeypatch.setattr(launch, "start_runner", lambda run, **options: None)

    async def steps(pilot):
        await open_wizard(pilot)
        await paste(pilot, f"'{pictures_parquet}'\n")
        keys = ["enter", "ctrl+r"]
        await pilot.press(*keys)
        await shows(pilot, "✓ ready")
        keys.append("enter")
        await pilot.press("enter")
        await until(pilot, lambda: opened)
        assert len(keys) <= 12

    drive(app, steps)
    spec = load_spec(opened[0].spec)
    assert spec.data.path == str(pictures_parquet)
    assert spec.backbone.name == "efficientnet_lite0"  # whose weights are on this machine


def test_a_launch_that_fails_says_why_and_keeps_the_draft(app, opened, pictures_parquet, monkeypatch):
    from deeptune.errors import CheckpointError
    from deeptune.runs import launch

    def refuse(run, **options):
        raise CheckpointError("the runner ended at once", hint="Look into console.log.")

    monkeypatch.setattr(launch, "start_runner", refuse)

    async def steps(pilot):
        screen = await read(pilot, pictures_parquet)
        await pilot.press("ctrl+r")
        await shows(pilot, "✓ ready")
        await pilot.press("ctrl+r")
        await shows(pilot, "the runner ended at once")
        await shows(pilot, "Look into console.log.")
        await pilot.press("enter")
        assert app.screen is screen
        screen.save_now()
        assert Draft.load() is not None

    drive(app, steps)
    assert not opened


def test_read_only_launches_nothing(tmp_path, pictures_parquet):
    app = DeepTuneApp(Options(root=tmp_path / "runs", read_only=True))

    async def steps(pilot):
        app.open_wizard()
        await pilot.pause()
        assert not isinstance(app.screen, WizardScreen)
        app.push_screen(WizardScreen(Draft({"data.path": str(pictures_parquet), "backbone.name": "resnet18"})))
        await shows(pilot, "path")
        await pilot.press("ctrl+r")
        await shows(pilot, "Without network")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: any("--read-only" in told.message for told in app._notifications))
        assert not (tmp_path / "runs").exists()

    drive(app, steps)


def test_problems_are_marked_and_one_key_away(app, tmp_path):
    file = tmp_path / "d.parquet"
    pq.write_table(pa.table({"text": ["a text"] * 24, "labels": ["a", "b", None] * 8}), file)

    async def steps(pilot):
        screen = await read(pilot, file)
        assert "8 of 24 labels in column 'labels' are missing" in picture(app)
        assert 'set data.on_bad_sample = "skip"' in " ".join(picture(app).split())
        assert "! 1 Data" in picture(app)
        await pilot.press("alt+5")
        await type_in(pilot, "many")
        await pilot.press("ctrl+r")
        await shows(pilot, "2 problems")
        assert app.screen.query_one("#launch", Button).disabled
        assert isinstance(screen.focused, Problems)
        assert "! 5 Training" in picture(app)
        await pilot.press("enter")
        await until(pilot, lambda: screen.step == "Training")
        await until(pilot, lambda: isinstance(screen.focused, Input) and screen.focused.value == "many")
        await pilot.press("ctrl+u", "6")  # the digit is typed, as the focus is in a field
        await pilot.press("ctrl+r")
        await shows(pilot, "1 problem:")
        await pilot.press("enter")
        await until(pilot, lambda: screen.step == "Data")
        screen.draft.set("data.on_bad_sample", "skip")
        screen.reader.read(screen.draft)
        await until(pilot, lambda: "✓ ready" not in picture(app) and not screen.facts.problems)

    drive(app, steps)


def test_guesses_show_where_the_defaults_do_not_fit(app, tmp_path):
    file = tmp_path / "d.parquet"
    pq.write_table(pa.table({"scan": [png()] * 24, "grade": [1, 2, 3] * 8, "patient_id": list(range(12)) * 2}), file)

    async def steps(pilot):
        screen = await read(pilot, file)
        assert (screen.draft.value("data.input"), screen.draft.value("data.label")) == ("scan", "grade")
        assert "patient_id may be one" in picture(app)
        assert screen.facts.problems == []
        assert screen.draft.command()[2:6] == ["--data", str(file), "--set", "data.input=scan"]

    drive(app, steps)


def test_keys_wait_for_a_screen_only_so_long(app, monkeypatch):
    """One that is never ready gets the key that has waited, and those behind it at once."""
    monkeypatch.setattr(typeahead, "PATIENCE", 3)

    async def steps(pilot):
        screen = await open_wizard(pilot)
        await until(pilot, lambda: screen.ready)
        screen.ready = False
        for letter in "scans":
            app.post_message(events.Key(letter, letter))
        await until(pilot, lambda: screen.focused.value == "scans")

    drive(app, steps)
