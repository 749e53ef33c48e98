"""The draft of the wizard: when it is saved, offered and dropped."""

from __future__ import annotations

import json

from driving import drive, shows, until
from textual.widgets import Input
from wizard_driving import open_wizard, paste, read, type_in

from deeptune.spec import load_spec
from deeptune.spec.toml import validate
from tui.app import DeepTuneApp
from tui.draft import Draft, draft_file
from tui.screens.wizard import WizardScreen
from tui.widgets.wizard.review import SpecView


def test_the_draft_outlives_a_hang_up(app, tmp_path, pictures_parquet):
    async def leave(pilot):
        await open_wizard(pilot)
        await paste(pilot, str(pictures_parquet))
        await pilot.press("5")  # typed into the path
        await pilot.press("backspace", "ctrl+n", "ctrl+n", "right", "down")
        await type_in(pilot, "12")
        app.save_now()  # what the handler of SIGHUP calls

    drive(app, leave)
    again = DeepTuneApp(app.options)

    async def restore(pilot):
        again.open_wizard()
        await shows(pilot, "There is a draft")
        await pilot.press("enter")
        await shows(pilot, "embedding size")
        assert again.screen.step == "Head"
        assert again.screen.draft.value("head.embedding_size") == 12
        assert again.screen.draft.value("data.path") == str(pictures_parquet)
        await until(pilot, lambda: again.screen.reader.data.survey)

    drive(again, restore)


def test_the_draft_is_saved_while_it_is_typed_and_can_be_left(app, tmp_path):
    async def steps(pilot):
        await open_wizard(pilot)
        await type_in(pilot, "x.parquet")
        await until(pilot, lambda: (saved := Draft.load()) is not None and saved.given["data.path"] == "x.parquet")
        app.pop_screen()
        app.open_wizard()
        await shows(pilot, "There is a draft")
        await pilot.press("right", "enter")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen) and app.screen.focused is not None)
        assert app.screen.draft.given == {}

    drive(app, steps)


def test_a_run_opens_as_a_starting_point(app, finished_run):
    async def steps(pilot):
        app.open_wizard(finished_run.spec)
        await shows(pilot, "pictures.parquet")
        await until(pilot, lambda: app.screen.reader.data.survey)
        asked = json.loads(finished_run.run.read_text())["asked"]  # with every "auto" as it was
        assert app.screen.draft.spec() == validate(asked)

    drive(app, steps)


def test_the_spec_is_saved_where_the_person_says(app, tmp_path, monkeypatch, pictures_parquet):
    monkeypatch.chdir(tmp_path)

    async def steps(pilot):
        screen = await read(pilot, pictures_parquet)
        await pilot.press("ctrl+s")
        await shows(pilot, "Save the spec as")
        await pilot.press("ctrl+u")
        await type_in(pilot, "mine")
        await pilot.press("enter")
        await until(pilot, (tmp_path / "mine.toml").exists)
        assert load_spec(tmp_path / "mine.toml") == screen.draft.spec()
        await pilot.press("ctrl+s", "ctrl+u")
        await type_in(pilot, "mine.toml")
        await pilot.press("enter")
        await shows(pilot, "Replace")

    drive(app, steps)


def test_escape_on_the_question_about_a_draft_leaves_it_where_it_is(app):
    Draft({"data.path": "scans.parquet"}).save()

    async def steps(pilot):
        pilot.app.open_wizard()
        await shows(pilot, "There is a draft")
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        assert Draft.load().text("data.path") == "scans.parquet"
        pilot.app.open_wizard()
        await shows(pilot, "There is a draft")
        await pilot.press("right", "enter")
        await until(pilot, lambda: isinstance(app.focused, Input))
        assert app.screen.draft.given == {}

    drive(app, steps)


def test_what_was_typed_and_taken_back_is_no_draft(app):
    async def steps(pilot):
        screen = await open_wizard(pilot)
        await type_in(pilot, "scans")
        screen.save_now()
        assert draft_file().exists()
        await pilot.press("ctrl+u")
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await until(pilot, lambda: not draft_file().exists())

    drive(app, steps)


def test_a_preset_that_was_only_looked_at_is_no_draft(app):
    async def steps(pilot):
        pilot.app.push_screen(screen := WizardScreen(Draft({"data.path": "scans.parquet"})))
        await until(pilot, lambda: screen.ready)
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.pause()
        assert not draft_file().exists()

    drive(app, steps)


def test_a_draft_that_is_continued_on_review_is_not_launched_by_one_more_enter(app, pictures_parquet):
    async def leave(pilot):
        await open_wizard(pilot)
        await paste(pilot, str(pictures_parquet))
        await until(pilot, lambda: app.screen.reader.data.survey)
        await pilot.press("ctrl+r")
        await shows(pilot, "Copy command")
        app.save_now()

    drive(app, leave)
    again = DeepTuneApp(app.options)

    async def restore(pilot):
        again.open_wizard()
        await shows(pilot, "There is a draft")
        await pilot.press("enter", "enter")
        await until(pilot, lambda: isinstance(again.screen, WizardScreen) and again.screen.step == "Review")
        await until(pilot, lambda: again.screen.focused is not None)
        await pilot.pause()
        assert isinstance(again.screen.focused, SpecView)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(again.screen, WizardScreen)
        await pilot.press("tab", "shift+tab")
        assert not list(again.options.root.glob("*/spec.toml"))

    drive(again, restore)
