"""Show a run from Python while it runs: the terminal's dashboard, a notebook's cell, or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from deeptune.api.html import run_html
from deeptune.runs import RunDirectory, RunState, run_state
from deeptune.runs.event_log import EventReader
from deeptune.show import viewer
from deeptune.show.console import console
from deeptune.show.view import View
from deeptune.show.viewer import INTERVAL, Shows, Viewer

NOTEBOOK_INTERVAL = 1.0  # seconds between pictures: each is sent to a browser as a whole


def follow(run: RunDirectory, *, progress: bool = True, timeout: float | None = None) -> RunState:
    """Show a run until it is over, or `timeout` seconds have passed; returns its state then."""
    end = None if timeout is None else time.monotonic() + timeout
    with _viewer(run, progress) as shows:
        while True:
            state = shows.refresh()
            if state.over or (end is not None and time.monotonic() >= end):
                return state
            time.sleep(INTERVAL)


@contextmanager
def beside(run: RunDirectory, *, progress: bool = True) -> Iterator[None]:
    """Show a run while the block does it in this process."""
    with viewer.beside(_viewer(run, progress)) if progress else nullcontext():
        yield


def _viewer(run: RunDirectory, progress: bool) -> AbstractContextManager[Shows]:
    if not progress:
        return nullcontext(Silent(run))
    if in_notebook():
        return nullcontext(NotebookViewer(run))
    return Viewer(run, console(stderr=True), plain=False)  # plain lines where stderr is not a terminal


def in_notebook() -> bool:
    """Check whether this process is the kernel of a notebook, which shows HTML."""
    from rich.console import Console

    return Console().is_jupyter


class Silent:
    """Shows nothing."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def refresh(self) -> RunState:
        return run_state(self._run)


class NotebookViewer:
    """Keeps one picture of a run in the output of a notebook's cell up to date."""

    def __init__(self, run: RunDirectory) -> None:
        self._view, self._reader = View(run), EventReader(run.events)
        self._handle: Any = None
        self._shown = 0.0

    def refresh(self) -> RunState:
        view = self._view
        view.look()  # before the events: after it is over nothing more is written
        for event in self._reader.poll():
            view.take(event)
        if view.state.over or time.monotonic() - self._shown >= NOTEBOOK_INTERVAL:
            self._shown = time.monotonic()
            self._show(Picture(run_html(view), f"{view.directory.id}: {view.state.word}"))
        return view.state

    def _show(self, picture: Picture) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)


class Picture:
    """HTML for a notebook, with a line of text for what shows no HTML."""

    def __init__(self, html: str, text: str) -> None:
        self._html, self._text = html, text

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text
