"""Driving the app in a test, and reading its screen."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from textual.pilot import Pilot

from deeptune.runs import RunDirectory
from tui.app import DeepTuneApp
from tui.options import Options

NOW = 1_790_000_000.0  # where tests freeze the clock
PATIENCE = 30.0  # seconds that anything may take on a busy machine


def monitor(run: RunDirectory, **options: Any) -> DeepTuneApp:
    """The app with the monitor of a run."""
    return DeepTuneApp(Options(root=run.path.parent, **options), opens=("run", run.path))


def drive(app: DeepTuneApp, steps, size=(80, 24)):
    """Run `steps(pilot)` in the app."""

    async def go():
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await app.workers.wait_for_complete()
            await pilot.pause()
            return await steps(pilot)

    return asyncio.run(go())


def picture(app: DeepTuneApp) -> str:
    """All text on the screen."""
    _, height = app.size
    lines = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines[:height])


async def until(pilot: Pilot, condition, *, seconds: float = PATIENCE) -> None:
    """Let the app work until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, picture(pilot.app)
        await pilot.pause(0.05)


async def shows(pilot: Pilot, words: str, *, seconds: float = PATIENCE) -> None:
    """Let the app work until its screen has these words."""
    await until(pilot, lambda: words in picture(pilot.app), seconds=seconds)
