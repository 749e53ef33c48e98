"""The heading of a run: its state, progress, remaining time and warnings."""

from __future__ import annotations

import time

from deeptune.formatting import ago, duration, safe
from deeptune.report.tables import TITLES, sentence_title, value_text
from deeptune.runs.state import SYMBOLS
from deeptune.show.chart import ChartGlyphs, Row, fitted
from deeptune.show.run_text import best_text, is_number
from deeptune.show.view import PHASE_WORDS, View, chosen_metric, curve_metric, start_facts
from deeptune.spec.tasks import TASKS
from tui.widgets.styled_lines import Lines

STATE_STYLES = {
    "running": "busy", "starting": "busy", "stopping": "warn", "paused": "warn", "done": "good", "stopped": "warn",
    "failed": "bad", "crashed": "bad", "deleted": "bad", "stale": "warn", "presumed dead": "bad",
}  # fmt: skip
BAR = (10, 60)  # cells of the bar, least and most


class Heading(Lines):
    """Shows three to five lines, depending on the room."""

    _shown: tuple[View, float, ChartGlyphs, str, bool] | None = None

    def tell(self, view: View, now: float, glyphs: ChartGlyphs, problem: str = "", resumable: bool = False) -> None:
        """Show the view at a time. For a `resumable` run the heading offers to resume it."""
        self._shown = view, now, glyphs, problem, resumable
        width, lines = self.size
        middle = _ending(view, width, resumable) if view.state.over else _progress(view, now, width, glyphs)
        rows = [_state(view, now, width, problem), *middle]
        warning = _warning(view)
        if lines >= 4 or warning is not None:
            rows.append(warning if warning is not None else _scores(view))
        if lines >= 5:
            rows.append(_scores(view) if warning is not None else _model(view))
        self.show([fitted(row, width, "…") for row in rows])

    def on_resize(self) -> None:
        if self._shown is not None:
            self.tell(*self._shown)


def coarse(seconds: float) -> str:
    """Write an age in coarse steps, as each change is drawn and sent over the connection."""
    if seconds < 10:
        return "just now"
    return f"{ago(seconds // 10 * 10 if seconds < 60 else seconds)} ago"


def beside(left: Row, width: int, *rights: Row) -> Row:
    """Add to a row the first of `rights` that fits at its right end."""
    room = width - _length(left)
    right = next((row for row in rights if _length(row) + 2 <= room), [])
    return [*left, (" " * (room - _length(right)), ""), *right]


def _length(row: Row) -> int:
    return sum(len(text) for text, _ in row)


def _state(view: View, now: float, width: int, problem: str) -> Row:
    word = view.state.word
    left: Row = [(f"{SYMBOLS[word]} {word}", STATE_STYLES[word])]
    if problem:
        return [*left, ("  ", ""), (problem, "bad")]
    if view.state.over:
        return beside(left, width, [(f"ended {coarse(now - view.last)}", "label")] if view.last else [])
    epochs = f" · epoch {view.step.epoch} of {view.step.epochs}" if view.phase == "train" and view.step else ""
    left.append((f"  {safe(PHASE_WORDS.get(view.phase, view.phase))}{epochs}", "value"))
    if view.state.detail:
        return [*left, ("  ", ""), (safe(view.state.detail), "warn")]
    return beside(left, width, [(f"last event {coarse(now - view.last)}", "label")] if view.last else [])


def _progress(view: View, now: float, width: int, glyphs: ChartGlyphs) -> list[Row]:
    elapsed = [(f"{duration(view.elapsed(now))} so far", "label")]
    if view.phase == "train" and view.step:
        step, total = view.step.step, view.start.steps if view.start else 0
        room = width - 55 if width >= 70 else width - 26
        run = bar("run", step, total, room, glyphs)
        epoch = bar("epoch", view.step.epoch_step, view.step.epoch_steps, room, glyphs)
        stored = _stored(view, now)
        return [beside(run, width, *_to_go(view)), beside(epoch, width, stored + elapsed, elapsed)]
    progress = view.status.get("progress")
    phases = _phases(view, width)
    if progress and progress["total"] > 0:
        left = view.to_go(now)
        count = bar(safe(view.phase), progress["done"], progress["total"], width - (44 if left is None else 66), glyphs)
        if left is None:
            return [phases, beside(count, width, elapsed)]
        to_go: Row = [(f"about {duration(left)} to go", "value")]
        return [phases, beside(count, width, [*to_go, (" · ", "label"), *elapsed], to_go)]
    return [phases, elapsed]


def bar(name: str, done: int, total: int, room: int, glyphs: ChartGlyphs) -> Row:
    """Draw a name, a bar of about `room` cells, the share that is done and the count."""
    width = min(max(room, BAR[0]), BAR[1])
    share = min(max(done / total, 0), 1) if total > 0 else 0
    full, empty = ("#", "-") if glyphs.ascii else ("━", "─")
    count = f"{done:,}/{total:,}" if total > 0 else f"{done:,}"
    return [
        (f"{name:<5} ", "label"),
        (full * round(share * width), "busy"),
        (empty * (width - round(share * width)), "axis"),
        (f" {share:4.0%} ", "value"),
        (count, "label"),
    ]


def _to_go(view: View) -> list[Row]:
    """Write the remaining time, at most, as training may stop early: with the spread of recent steps, and without."""
    eta = view.to_go(0)
    if eta is None:
        return []
    left = f"≤ {duration(eta)} to go"
    low, high = (duration(eta * part) for part in view.history.pace_spread() or (1, 1))
    if low == high:
        return [[(left, "value")]]
    between = f" ({low}–{high})"
    return [[(left, "value"), (between, "label")], [(left, "value")]]


def _stored(view: View, now: float) -> Row:
    if not view.stored:
        return []
    return [(f"checkpoint {coarse(now - view.stored.t)} · ", "label")]


def _phases(view: View, width: int) -> Row:
    phases = view.phases()
    row: Row = []
    for phase in phases:
        if phase == view.phase:
            row.append((f"● {phase}  ", "busy"))
        elif phase in view.seen:
            row.append((f"✓ {phase}  ", "good"))
        else:
            row.append((f"○ {phase}  ", "label"))
    if sum(len(text) for text, _ in row) <= width:
        return row
    at = f" ({phases.index(view.phase) + 1} of {len(phases)})" if view.phase in phases else ""
    return [(f"● {safe(view.phase)}{at}", "busy")]


def _ending(view: View, width: int, resumable: bool) -> list[Row]:
    trained = sum(number > 0 for number in view.epochs)  # epoch 0 is the head that was there before
    took = f"{duration(view.elapsed(view.last))} for {trained} epoch{'s' if trained != 1 else ''}"
    resume: Row = [("  r", "key"), (" resumes it", "label")] if resumable else []

    def beginning(best: str) -> Row:
        return [(took, "value"), *([("  best ", "label"), (safe(best), "value")] if best else [])]

    # The title of a metric may be long, its name is short; the epochs of a mean are many.
    short = best_text(view.state)
    ways = [beginning(best) for best in (best_text(view.state, titled=True), short, short.partition(" (")[0])]
    first = next((way for way in ways if _length(way) + _length(resume) + 2 <= width), ways[-1])
    if view.state.word == "done":
        return [first, test_row(view)]
    why = safe(view.state.detail.split("\n")[0]) or view.state.word
    why = f"the run failed: {why}" if view.state.word == "failed" else why
    return [beside(first, width, resume), [(why, "bad" if view.state.word != "stopped" else "value")]]


def test_row(view: View) -> Row:
    """Make the row of the headline test metrics."""
    test = view.state.result.get("test")
    if not isinstance(test, dict):
        return []
    row: Row = [("test ", "label")]
    for name in dict.fromkeys(name for info in TASKS.values() for name in info.summary):
        if is_number(test.get(name)):
            row += [(f" {TITLES[name]} ", "label"), (value_text(name, test[name]), "value"), (" ", "")]
    return row


def _warning(view: View) -> Row | None:
    """Return the warning of the last epochs, or else the last warning of the run."""
    note = view.history.alert or next((note for note in reversed(view.history.notes) if note.kind == "warning"), None)
    if note is None:
        return None
    stamp = f"step {note.step:,}" if note.step is not None else time.strftime("%H:%M:%S", time.localtime(note.time))
    return [(f"! {stamp}: ", "warn"), (safe(note.text).replace("\n", " "), "warn")]


def _scores(view: View) -> Row:
    row: Row = []
    if view.step:
        row += [("loss ", "label"), (value_text("loss", view.step.loss), "value")]
    val = view.val
    for name in dict.fromkeys(("loss", chosen_metric(view), curve_metric(val) or "")):
        if name in val:
            row += [(f"  val {safe(sentence_title(name))} ", "label"), (value_text(name, val[name]), "value")]
    if (best := best_text(view.state, titled=True)) and not view.state.over:
        row += [("  best ", "label"), (safe(best), "value")]
    return row


def _model(view: View) -> Row:
    if not view.start:
        return []
    facts = dict(start_facts(view.start))
    return [(safe(f"{facts['model']} · {facts['method']} · {facts['device']}"), "label")]
