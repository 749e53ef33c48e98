"""The comparison of runs on a file of the person's choice: its process, and its lines on the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from textual.screen import Screen

from deeptune.environment import module_command
from deeptune.formatting import visible
from deeptune.runs import RunDirectory
from deeptune.show.chart import Row
from tui.command_process import Application
from tui.widgets.paired_differences import Differences
from tui.widgets.styled_lines import wrapped

MAX_OUTPUT_LINES = 12  # lines of the output of a process that failed


class OnFile:
    """Scores runs on a file by `tui.run_comparison`, in a process of its own, and calls `changed` at news."""

    def __init__(self, screen: Screen[None], changed: Callable[[], None]) -> None:
        self._screen, self._changed = screen, changed
        self._application: Application | None = None
        self._said: list[tuple[str, str]] = []  # text and style
        self._found = Differences()

    @property
    def working(self) -> bool:
        return self._application is not None

    def rows(self, width: int, minus: str, reference: int) -> list[Row]:
        """Make lines of at most `width` cells of what is known."""
        if self._said:
            return [[], *([(line, style)] for text, style in self._said for line in wrapped(text, width))]
        return self._found.rows(width, minus, reference)

    async def start(self, runs: Sequence[RunDirectory], file: Path) -> None:
        from tui.run_comparison import ShownComparison

        lines: list[str] = []
        application = self._application = Application(lambda _: None, lines.append)
        self._tell(f"scoring {len(runs)} runs on {file.name} ... (d cancels)", "busy")
        command = module_command("tui.run_comparison", str(file), *(str(run.path.absolute()) for run in runs))
        try:
            code, printed = await application.run(command)
        except OSError as error:
            code, lines = 1, [f"it could not be started: {error}"]
        finally:
            self._application = None
        if not self._screen.is_mounted:
            return
        if code == 0:
            self._found, self._said = Differences(ShownComparison.from_json(printed)), []
            self._changed()
        elif application.cancelled:
            self._said = []
            self._changed()
        else:
            self._tell(f"the runs can't be compared on {file.name}: ", "bad", *lines[-MAX_OUTPUT_LINES:])

    async def cancel(self) -> None:
        if self._application is not None:
            await self._application.cancel()

    def kill(self) -> None:
        if self._application is not None:
            self._application.kill()

    def _tell(self, text: str, style: str, *more: str) -> None:
        self._said = [(visible(text), style), *((visible(line), "label") for line in more)]
        self._changed()
