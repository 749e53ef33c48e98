"""End the interface in time, whatever happens to its terminal, and save the draft first.

A terminal that closes sends SIGHUP. One that nobody reads blocks the process that writes to it, and so the loop that
would end the interface. A thread therefore ends the process if that takes too long. Runs are separate processes and
continue.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from deeptune.signals import signal_handlers

if TYPE_CHECKING:
    from tui.app import DeepTuneApp

GRACE = 1.5  # seconds for an end in order


@contextmanager
def lifeline(app: DeepTuneApp) -> Iterator[None]:
    """Handle SIGHUP and SIGTERM while the block runs the app. Ending the app takes at most GRACE seconds."""

    def end(number: int, _frame: FrameType | None) -> None:
        with suppress(Exception):  # nothing may keep the process from its end
            app.save_now()
            app.end_processes()
        end_at_latest(128 + number)
        if app._loop is not None:  # which may sleep, and a signal alone does not wake it
            app._loop.call_soon_threadsafe(partial(app.exit, return_code=128 + number))

    with signal_handlers({signal.SIGHUP: end, signal.SIGTERM: end}):
        yield


def end_at_latest(code: int) -> None:
    """End this process with `code` after GRACE seconds, if it still runs."""
    timer = threading.Timer(GRACE, os._exit, (code,))
    timer.daemon = True
    timer.start()
