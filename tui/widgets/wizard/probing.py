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
from deeptune.probing.candidates import ANY_BACKBONE
from deeptune.probing.ranking import ENDED
from deeptune.spec import dump_spec
from deeptune.spec.toml import validate
from tui.command_process import Progress
from tui.draft import Draft
from tui.screens.ask import Choice
from tui.widgets.process_line import ProcessLine

if TYPE_CHECKING:
    from tui.app import DeepTuneApp

BUDGETS = {"1min": "1 minute", "5min": "5 minutes", "20min": "20 minutes"}


class Probing(ProcessLine):
    """Starts the probe, and says how far it is and what it advises. The table of backbones shows the scores."""

    DEFAULT_CSS = "Probing { padding: 0 1; }"

    class Ended(Message):
        """Posted once the scores of a probe are stored."""

    def __init__(self) -> None:
        super().__init__(id="probing")

    @work(group="probe")
    async def start(self, draft: Draft) -> None:
        """Ask for the budget and probe; or ask whether to cancel the probe in progress."""
        app = cast("DeepTuneApp", self.app)
        if self._application is not None:
            await self._ask_to_cancel("the probe", "What it has scored by then is kept.")
            return
        try:
            spec = dump_spec(validate({**draft.values(), "backbone": {"name": ANY_BACKBONE}}), only_set=True)
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
            await self._probe(spec, budget)

    async def _probe(self, spec: str, budget: str) -> None:
        self._tell("probe: loading PyTorch … (f5 cancels)")
        handle, file = tempfile.mkstemp(suffix=".toml")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(spec)
            words = ["probe", file, "--budget", budget, "--json", "--json-progress"]
            code, printed, cancelled = await self._command(*words)
        except OSError as error:  # the disk is full
            code, printed, cancelled, self._lines = 1, "", False, [f"it could not be started: {error}"]
        finally:
            with suppress(OSError):
                os.unlink(file)
        if not self.is_mounted:
            return
        ended = code in (0, RunStopped.exit_code)  # interrupted, it keeps what it found by then
        self._tell(advice_in(printed) if ended else "")
        if ended:
            self.post_message(self.Ended())
        elif not cancelled:
            self._tell_failure("The probe failed")

    def _go_on(self, progress: Progress) -> None:
        count = f": {progress.done:,} of {progress.total:,}" if progress.total else ""
        self._tell(f"probe: {safe(progress.what)}{count} (f5 cancels)")


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
