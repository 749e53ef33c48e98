"""Rank backbones from Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deeptune.api.specs import SpecLike, load_spec
from deeptune.errors import SpecError
from deeptune.formatting import seconds_of
from deeptune.probing.candidates import ANY_BACKBONE
from deeptune.show.console import console, progress_bar, say
from deeptune.spec.run_spec import RunSpec

if TYPE_CHECKING:
    from deeptune.engine.probe_passes import ProbeLog
    from deeptune.probing.ranking import Ranking

BUDGET = "5min"
LOG_EVERY = 10.0  # seconds between lines where no bar can be drawn


def probe(
    spec: SpecLike,
    changes: Mapping[str, Any] | None = None,
    *,
    backbones: Sequence[str] | None = None,
    budget: float | str = BUDGET,
    progress: bool = True,
) -> Ranking:
    """Rank backbones on the rows of a spec, by heads on frozen features that are scored by cross-validation.

    `spec` and `changes` are those of `load_spec`, and the backbone may be left out: all that have their weights on this
    machine are ranked, or `backbones`; `NAME=random` has random weights. Rows of train and val are used, those of test
    are not. `budget` is a number of seconds, or text such as `"5min"`: where it is short, fewer rows pass. Features go
    into the cache, from which a later run or probe reads them. Ctrl+C ends the probe with what is known by then.

    Returns a `Ranking`: `backbones`, the best first, each with `linear.score` and its 95% `interval`; `advice`; and
    `spec`, the spec that is advised, as TOML. Raises SpecError, DataError or WeightsError with what to change.
    """
    asked = load_spec(spec, changes, defaults={"backbone.name": ANY_BACKBONE})
    with shown(progress) as log:
        return rank(asked, backbones, budget_seconds(budget), log)


def rank(spec: RunSpec, backbones: Sequence[str] | None, budget: float, log: ProbeLog) -> Ranking:
    """Rank backbones for a spec, and report to `log`."""
    from deeptune.engine.probe import Probe

    return Probe(spec, None if backbones is None else list(backbones), budget=budget, log=log).run()


def budget_seconds(budget: float | str) -> float:
    """Read a time budget. Raises SpecError for what is none, or not above 0."""
    seconds = seconds_of(budget) if isinstance(budget, str) else float(budget)
    if seconds is None or not 0 < seconds < float("inf"):
        raise SpecError(f"budget: expected a time such as '90 s', '5min' or '1 h', got {budget!r}")
    return seconds


@contextmanager
def shown(progress: bool) -> Iterator[ProbeLog]:
    """Show where a probe is on stderr: a bar in a terminal, a line now and then elsewhere."""
    from deeptune.engine.probe_passes import ProbeLog

    if not progress:
        yield ProbeLog()
        return
    out = console(stderr=True)
    if not out.is_terminal:
        yield ProbeLog(lambda text: say(text, stderr=True), Lines().show)
        return
    with progress_bar(out) as (bar, task):
        yield ProbeLog(
            lambda text: bar.console.print(text, soft_wrap=True),
            lambda doing, done, total: bar.update(task, description=doing, completed=done, total=total or None),
        )


class Lines:
    """Writes a line to stderr when something new is done, and each `LOG_EVERY` seconds."""

    def __init__(self) -> None:
        self.doing, self.last_time = "", 0.0

    def show(self, doing: str, done: int, total: int) -> None:
        """Write a line if one is due."""
        import time

        now = time.monotonic()
        if doing != self.doing or now - self.last_time >= LOG_EVERY:
            self.doing, self.last_time = doing, now
            say(f"{doing}: {done:,} of {total:,}", stderr=True)
