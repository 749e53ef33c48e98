"""Rank the backbones on this machine on the draft's rows, by `deeptune probe` in a process of its own."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from textual import work
from textual.message import Message

from deeptune.errors import RunStopped, SpecError
from deeptune.formatting import safe
from deeptune.probing.candidates import OPEN
from deeptune.probing.ranking import ENDED
from deeptune.spec import dump_spec
from deeptune.spec.toml import validate
from tui.command_process import Application, Progress, deeptune_command
from tui.draft import Draft
from tui.screens.ask import AskScreen, Choice
from tui.widgets.changing_text import Line

if TYPE_CHECKING:
    from tui.app import DeepTuneApp

BUDGETS = {"1min": "1 minute", "5min": "5 minutes", "20min": "20 minutes"}
MAX_OUTPUT_LINES = 12  # of a process that failed


class Probing(Line):
    """Starts the probe, and says how far it is and what it advises. The table of backbones shows the scores."""

    DEFAULT_CSS = "Probing { height: auto; display: none; padding: 0 1; color: $primary; }"

    class Ended(Message):
        """Posted once the scores of a probe are stored."""

    def __init__(self) -> None:
        super().__init__(id="probing")
        self._application: Application | None = None
        self._lines: list[str] = []

    def on_unmount(self) -> None:
        if self._application is not None:
            self._application.kill()

    @work(group="probe")
    async def start(self, draft: Draft) -> None:
        """Ask for the budget and probe; or ask whether to cancel the probe in progress."""
        app = cast("DeepTuneApp", self.app)
        if self._application is not None:
            choices = [Choice("on", "Keep it going"), Choice("cancel", "Cancel it", dangerous=True)]
            answer = await app.ask("Cancel the probe?", "What it has scored by then is kept.", choices)
            if answer == "cancel" and self._application is not None:
                self._tell("cancelling the probe …")
                await self._application.cancel()
            return
        try:
            spec = dump_spec(validate({**draft.values(), "backbone": {"name": OPEN}}), only_set=True)
        except SpecError as error:
            app.tell_error(error)
            return
        text = (
            "Heads on frozen features are scored by cross-validation, for each backbone whose weights are here. "
            "A short budget takes fewer rows. A run that follows reads the features from the cache."
        )
        budgets = [Choice(budget, words) for budget, words in BUDGETS.items()]
        budget = await app.ask("Which backbone fits these rows?", text, budgets)
        if budget is not None and self._application is None:
            await self._probe(app, spec, budget)

    async def _probe(self, app: DeepTuneApp, spec: str, budget: str) -> None:
        application = self._application = Application(self._go_on, self._lines.append)
        self._lines.clear()
        self._tell("probe: loading PyTorch … (f5 cancels)")
        handle, file = tempfile.mkstemp(suffix=".toml")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(spec)
            command = deeptune_command("probe", file, "--budget", budget, "--json", "--json-progress")
            code, printed = await application.run(command)
        except OSError as error:
            code, printed, self._lines = 1, "", [f"it could not be started: {error}"]
        finally:
            self._application = None
            with suppress(OSError):
                os.unlink(file)
        if not self.is_mounted:
            return
        ended = code in (0, RunStopped.exit_code)  # interrupted, it keeps what it found by then
        self._tell(advice_in(printed) if ended else "")
        if ended:
            self.post_message(self.Ended())
        elif not application.cancelled:
            text = "\n".join(self._lines[-MAX_OUTPUT_LINES:])
            app.push_screen(AskScreen("The probe failed", safe(text), [Choice("close", "Close")]))

    def _go_on(self, progress: Progress) -> None:
        count = f": {progress.done:,} of {progress.total:,}" if progress.total else ""
        self._tell(f"probe: {safe(progress.what)}{count} (f5 cancels)")

    def _tell(self, text: str) -> None:
        self.display = bool(text)
        self.say(text)


def advice_in(printed: str) -> str:
    """Say what `deeptune probe --json` advises; empty where it says nothing."""
    try:
        found: dict[str, Any] = json.loads(printed)
        scored = sum(one["linear"] is not None for one in found["backbones"])
        count = f"{scored} backbone{'s' if scored != 1 else ''}"
        said = f"probed {count} on {found['scored_rows']:,} rows{ENDED[found['state']]}"
        if advice := found["advice"]:
            said += f"; likely to pay: {advice['backbone']}, tuning.method = '{advice['method']}'"
    except (ValueError, KeyError, TypeError):
        return ""
    return safe(said)
