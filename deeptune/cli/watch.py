"""A viewer in a terminal: Ctrl+C, SIGTERM, the end of the run, a terminal that goes away."""

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
from deeptune.signals import signal_handlers

if TYPE_CHECKING:
    from rich.console import Console

QUESTION = "The run continues without this window. [d]etach, [s]top it, [Enter] keep watching: "


class Terminated(BaseException):
    """Raised by SIGTERM where it arrives, since a viewer may be waiting for a terminal that nobody reads."""


class Interrupts:
    """Counts interrupts (Ctrl+C or SIGINT) that were not handled yet."""

    def __init__(self) -> None:
        self._count = 0

    def happened(self, _number: int, _frame: object) -> None:
        self._count += 1

    def take(self) -> bool:
        """Return whether there was an interrupt since the last call."""
        self._count, count = 0, self._count
        return count > 0


@contextmanager
def signals() -> Iterator[Interrupts]:
    """Count interrupts instead of ending. SIGTERM ends this process with a message that the run continues."""
    interrupts = Interrupts()

    def terminate(_number: int, _frame: object) -> None:
        raise Terminated

    with signal_handlers({signal.SIGINT: interrupts.happened, signal.SIGTERM: terminate}):
        yield interrupts


def watch(run: RunDirectory, out: Console, interrupts: Interrupts, *, plain: bool, stops: bool) -> RunState | None:
    """Show a run until it is over. Returns its final state, or None if the person left before.

    Ctrl+C asks what to do. Without a terminal to ask in, it stops the run if `stops` is true, and otherwise leaves it.
    Raises RunStopped if the person left while the run was still stopping.
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
    """Ring the bell and send a notification, if the terminal takes them without waiting."""
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
                "the run was asked to stop, and will stop at its next step",
                hint=f"See how it ends: deeptune attach {run.reference}",
            )
        answer = _ask(viewer, interrupts) if _can_ask(viewer.out) else "s" if stops else "d"
        if answer == "d":
            return None
        if answer == "s":
            request_stop(run, "by Ctrl+C in its view")
            stopping = True
            viewer.note("the run was asked to stop; Ctrl+C again leaves without waiting")


def _can_ask(out: Console) -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and out.file.isatty()


def _ask(viewer: Viewer, interrupts: Interrupts) -> str:
    """Ask whether to detach (`d`), stop (`s`) or stay (empty). A second Ctrl+C means `s`, a lost terminal `d`."""
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
    """Read a line, with its end, from the terminal: empty at the end of input, None at another Ctrl+C."""
    while True:
        if interrupts.take():
            print(file=sys.stderr)
            return None
        if select.select([sys.stdin], [], [], INTERVAL)[0]:
            return os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace")
        if run_state(run).over:
            return "\n"


def tell_it_goes_on(run: RunDirectory) -> None:
    """Print how to return to a run that continues, if the terminal is still there."""
    if can_write(sys.stderr):
        with suppress(OSError):
            say(f"the run continues: deeptune attach {run.reference}", stderr=True)
            return
    forget(sys.stderr)


def _end_by_sigterm(run: RunDirectory) -> None:
    """End this process with SIGTERM's own exit status, after a message about the run."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    last = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM))  # a full terminal holds up also this word
    last.daemon = True
    last.start()
    tell_it_goes_on(run)
    os.kill(os.getpid(), signal.SIGTERM)
