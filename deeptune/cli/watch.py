"""A viewer and the person before it: Ctrl+C, requests to end, the end of the run, a terminal that goes away."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from deeptune.errors import RunStopped
from deeptune.runs import RunDirectory, RunState, run_state
from deeptune.runs.control import request_stop
from deeptune.show.announce import announcement, end_text, wants_bell
from deeptune.show.console import can_write, forget, say
from deeptune.show.viewer import INTERVAL, TerminalClosed, Viewer

if TYPE_CHECKING:
    from rich.console import Console

QUESTION = "The run goes on without this window. [d]etach, [s]top it, [Enter] keep watching: "


class Terminated(BaseException):
    """SIGTERM: raised where it arrives, since a viewer may be waiting for a terminal that nobody reads."""


class Interrupts:
    """Counts Ctrl+C (or SIGINT) that nobody has looked at."""

    def __init__(self) -> None:
        self._count = 0

    def happened(self, _number: int, _frame: object) -> None:
        self._count += 1

    def take(self) -> bool:
        """Whether there was one since the last call."""
        self._count, count = 0, self._count
        return count > 0


@contextmanager
def signals() -> Iterator[Interrupts]:
    """Count interrupts instead of being ended by them. SIGTERM ends this process, and says that the run goes on."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts  # only the main thread may ask for signals
        return

    def terminate(_number: int, _frame: object) -> None:
        raise Terminated

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, interrupts.happened),
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
    }
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(run: RunDirectory, out: Console, interrupts: Interrupts, *, plain: bool, stops: bool) -> RunState | None:
    """Show a run until it is over; its state then, or None when the viewer was left before.

    Ctrl+C asks what to do. Where nobody can be asked it stops the run when `stops`, and otherwise leaves it.
    Raises RunStopped when the viewer was left with the run still stopping.
    """
    try:
        was_over = run_state(run).over
        with Viewer(run, out, plain=plain) as viewer:
            state = _watch(viewer, interrupts, stops=stops)
        if state is not None and not was_over and not plain:
            _announce(run, state, out)
        return state
    except TerminalClosed:
        return None
    except Terminated:
        _end_by_sigterm(run)
        raise


def _announce(run: RunDirectory, state: RunState, out: Console) -> None:
    """Ring and notify on a terminal that takes it at once."""
    text = announcement(end_text(run, state), os.environ.get("TERM", ""))
    if text and wants_bell() and out.file.isatty() and can_write(out.file):
        with suppress(OSError):
            out.file.write(text)
            out.file.flush()


def _watch(viewer: Viewer, interrupts: Interrupts, *, stops: bool) -> RunState | None:
    run, stopping = viewer.view.directory, False
    pause = threading.Event()
    while True:
        state = viewer.refresh()
        if state.over:
            return state
        if not interrupts.take():
            pause.wait(INTERVAL)
            continue
        if stopping:
            raise RunStopped(
                "the run has been asked to stop, and will at its next step",
                hint=f"See how it ends: deeptune attach {run.reference}",
            )
        answer = _ask(viewer, interrupts) if _can_ask(viewer.out) else "s" if stops else "d"
        if answer == "d":
            return None
        if answer == "s":
            request_stop(run)
            stopping = True
            viewer.note("the run was asked to stop; Ctrl+C leaves it to that")


def _can_ask(out: Console) -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and out.file.isatty()


def _ask(viewer: Viewer, interrupts: Interrupts) -> str:
    """`d`, `s` or nothing; a second Ctrl+C is `s`, and a terminal that goes away `d`."""
    viewer.pause()
    out = viewer.out.file
    try:
        while True:
            print(f"\n{QUESTION}", end="", file=out, flush=True)
            line = _line(viewer.view.directory, interrupts)
            if line is None or (word := line.strip().lower()[:1]) in ("d", "s", ""):
                break
        answer = "s" if line is None else "d" if line == "" else word
    except OSError:
        raise TerminalClosed from None
    if answer != "d":
        viewer.resume()
    return answer


def _line(run: RunDirectory, interrupts: Interrupts) -> str | None:
    """A line from the terminal, with its end; nothing at the end of input, None at another Ctrl+C."""
    while True:
        if interrupts.take():
            print(file=sys.stderr)
            return None
        if select.select([sys.stdin], [], [], INTERVAL)[0]:
            return os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace")
        if run_state(run).over:
            return "\n"


def tell_it_goes_on(run: RunDirectory) -> None:
    """What somebody who leaves a run needs to know, if that is still there to hear it."""
    if can_write(sys.stderr):
        with suppress(OSError):
            say(f"the run goes on: deeptune attach {run.reference}", stderr=True)
            return
    forget(sys.stderr)


def _end_by_sigterm(run: RunDirectory) -> None:
    """End as whoever sent SIGTERM expects, after a word about the run."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    last = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM))  # a full terminal holds up also this word
    last.daemon = True
    last.start()
    tell_it_goes_on(run)
    os.kill(os.getpid(), signal.SIGTERM)
