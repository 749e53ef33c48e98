"""Styles of a screen are its own: no screen that was opened over another changes how that one looks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from driving import drive, picture, until

import tui.screens
from deeptune.runs import RunDirectory
from tui.app import DeepTuneApp
from tui.draft import Draft
from tui.options import Options
from tui.screens.ask import AskScreen, Choice
from tui.screens.compare import CompareScreen
from tui.screens.copied import CopiedScreen
from tui.screens.embeddings import EmbeddingsScreen
from tui.screens.help import HelpScreen
from tui.screens.jump import JumpScreen, targets
from tui.screens.monitor import MonitorScreen
from tui.screens.pick import PickScreen
from tui.screens.save import SaveScreen
from tui.screens.wizard import WizardScreen

SHEETS = sorted(Path(tui.screens.__file__).parent.glob("*.tcss"))
SCREENS = {
    "wizard": lambda run: WizardScreen(Draft({"data.path": "sample:digits_rotation"})),
    "monitor": lambda run: MonitorScreen(RunDirectory(run.path)),
    "compare": lambda run: CompareScreen([run, run]),
    "embeddings": EmbeddingsScreen,
}
OTHERS = {
    "help": lambda app: HelpScreen(app.screen),
    "ask": lambda app: AskScreen("Stop it?", "It can be resumed.", [Choice("no", "Keep running")]),
    "copied": lambda app: CopiedScreen("deeptune run quickstart"),
    "pick": lambda app: PickScreen(Path(__file__).parent),
    "save": lambda app: SaveScreen("mine.toml"),
    "jump": lambda app: JumpScreen(targets(app.screen)),
}


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.stem)
def test_every_rule_of_a_sheet_begins_with_its_screen(sheet):
    rules = re.sub(r"/\*.*?\*/|\{[^}]*\}", ";", sheet.read_text(), flags=re.DOTALL)
    selectors = [part.strip() for part in re.split("[;,]", rules) if part.strip()]
    assert selectors
    assert {re.match(r"\w*", selector)[0] for selector in selectors} == {f"{sheet.stem.capitalize()}Screen"}


def look(app: DeepTuneApp) -> list[list[tuple]]:
    """Every cell of the screen with its style."""
    lines = app.screen._compositor.render_strips()
    return [
        [(cell, style and style.clear_meta_and_links()) for text, style, _ in strip for cell in text] for strip in lines
    ]


async def still(pilot, seconds: float = 0.1) -> list[list[tuple]]:
    """How the screen looks once nothing is at work, and nothing has changed for some seconds."""
    await until(pilot, lambda: not any(worker.is_running for worker in pilot.app.workers))
    before = None
    while before != (before := look(pilot.app)):
        await pilot.pause(seconds)
    return before


@pytest.mark.parametrize(("name", "size"), [("wizard", (80, 24)), ("wizard", (160, 45)), ("monitor", (80, 24))])
def test_a_screen_looks_as_before_once_another_was_over_it(finished_run, name, size):
    app = DeepTuneApp(Options(root=finished_run.path.parent), clock=lambda: 1.8e9)

    async def steps(pilot):
        app.push_screen(below := SCREENS[name](finished_run))
        await until(pilot, lambda: app.screen is below and below.focused is not None)
        if name == "wizard":
            await until(pilot, lambda: below.reader.data.survey and below.reader.samples and below._fetches)
        before = await still(pilot, 1.0)  # longer than a screen waits between two reads of its files
        for other in [lambda _, make=make: make(finished_run) for make in SCREENS.values()] + [*OTHERS.values()]:
            app.push_screen(above := other(app))
            await until(pilot, lambda: app.screen is above and above.is_running)
            await still(pilot)
            above.dismiss()
            await until(pilot, lambda: app.screen is below)
            after = await still(pilot)
            changed = [row for row in range(size[1]) if after[row] != before[row]]
            assert not changed, f"{type(above).__name__} changed rows {changed}:\n{picture(app)}"

    drive(app, steps, size=size)


@pytest.mark.parametrize("name", sorted(set(OTHERS) - {"help"}))
def test_help_lists_the_keys_of_a_window_and_returns_to_it(tmp_path, name):
    app = DeepTuneApp(Options(root=tmp_path))

    async def steps(pilot):
        app.push_screen(window := OTHERS[name](app))
        await until(pilot, lambda: app.screen is window)
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await until(pilot, lambda: f"{name}." in picture(app) and f"Keys · {window.where}" in picture(app))
        await pilot.press("f1")
        await until(pilot, lambda: app.screen is window)

    drive(app, steps, size=(80, 24))
