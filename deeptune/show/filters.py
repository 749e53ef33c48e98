"""A filter of runs that a person types: words, `tag:baseline`, `state:failed`, `accuracy>0.8`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deeptune.errors import SpecError, did_you_mean, listed
from deeptune.report.tables import TITLES
from deeptune.runs import RunDirectory, RunState
from deeptune.runs.notes import Notes
from deeptune.runs.state import SYMBOLS
from deeptune.show.run_text import best_of, is_number

KEYS = ("tag", "state", "name", "note", "backbone", "method", "task")
_COMPARISON = re.compile(r"(?:val/|test/)?([a-z_0-9]+)(>=|<=|>|<|=)(-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)")
_HALF = re.compile(r"(?:val/|test/)?([a-z_0-9]+)(>=|<=|>|<|=)(.*)")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "=": operator.eq,
}  # fmt: skip

HELP = "words, tag:NAME, state:failed, backbone:…, accuracy>0.8"


@dataclass(frozen=True)
class Described:
    """A run as a filter sees it: texts by key, and its metrics by name (test, else the best of val)."""

    texts: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)


def describe(run: RunDirectory, state: RunState, notes: Notes) -> Described:
    """Return the texts and metrics of a run."""
    status, result = state.status, state.result
    texts = {
        "id": run.id,
        "name": notes.name,
        "note": notes.note,
        "tag": " ".join(f"#{tag}" for tag in notes.tags),
        "state": state.word,
        "backbone": str(status.get("backbone") or result.get("backbone") or ""),
        "method": str(status.get("method") or ""),
        "task": str(status.get("task") or ""),
    }
    metrics: dict[str, float] = {}
    if best := best_of(state):
        metrics[best["metric"].removeprefix("val/")] = best["value"]
    test = result.get("test")
    if isinstance(test, dict):
        metrics |= {name: value for name, value in test.items() if is_number(value)}
    return Described({key: text.lower() for key, text in texts.items()}, metrics)


def make_filter(text: str) -> Callable[[Described], bool]:
    """Return the condition that all parts of `text` hold, for each run.

    Raises SpecError for a metric or a state that does not exist, and for a number that is none.
    """
    joined = re.sub(r"\s*(>=|<=|>|<|=)\s*", r"\1", text.lower())
    tests = [_test(word) for word in joined.split()]
    return lambda run: all(test(run) for test in tests)


def _test(word: str) -> Callable[[Described], bool]:
    key, colon, rest = word.partition(":")
    if colon and key in KEYS:
        if key == "tag":
            return lambda run: any(tag.startswith(f"#{rest}") for tag in run.texts["tag"].split())
        if key == "state" and not any(rest in state for state in SYMBOLS):
            near = did_you_mean(rest, SYMBOLS)
            raise SpecError(f"there is no state {rest!r}. {near}".rstrip(), hint=f"States: {', '.join(SYMBOLS)}.")
        return lambda run: rest in run.texts[key]
    if (found := _HALF.fullmatch(word)) is None:
        return lambda run: any(word in text for text in run.texts.values())
    name, sign, number = found.groups()
    if name not in TITLES:
        near = did_you_mean(name, TITLES)
        raise SpecError(f"there is no metric {name!r}. {near}".rstrip(), hint=f"Metrics: {listed(TITLES, most=12)}.")
    if _COMPARISON.fullmatch(word) is None:
        raise SpecError(f"{word}: a number is missing after {sign}", hint=f"For example: {name}{sign}0.8")
    compare, limit = _OPERATORS[sign], float(number)
    return lambda run: name in run.metrics and compare(run.metrics[name], limit)
