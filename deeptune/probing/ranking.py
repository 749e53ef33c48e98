"""The ranking of a probe as JSON: the file `docs/probe.md` describes. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from deeptune.data.cache.entry import cache_folder
from deeptune.errors import CheckpointError, SpecError
from deeptune.runs.files import read_json, write_json
from deeptune.spec.defaults import absolute_data
from deeptune.spec.modalities import Input
from deeptune.spec.run_spec import RunSpec

SCHEMA = 1

Interval = tuple[float, float]
State = Literal["complete", "short", "stopped"]
# How each is said after a number of rows.
ENDED: Mapping[str, str] = {"complete": "", "short": ", cut short by the budget", "stopped": ", stopped early"}


@dataclass(frozen=True)
class HeadScore:
    """The score of a head on rows of other folds. `seconds` is what fitting all folds took."""

    score: float | None
    interval: Interval | None
    seconds: float
    metrics: dict[str, float | None] = field(default_factory=dict)
    penalty: float | None = None


@dataclass(frozen=True)
class RankedBackbone:
    """A backbone of a probe. `linear` is None where it was not scored, for the `reason`.

    `feature_seconds` is what the pass of all rows takes, None where it was not measured. `memory` is in bytes; whether
    it is a `peak` that was measured, an `estimate`, or that of the `weights` alone, `memory_from` says.
    """

    name: str
    weights: str
    width: int | None = None
    parameters: int | None = None
    rows: int = 0
    linear: HeadScore | None = None
    boosting: HeadScore | None = None
    feature_seconds: float | None = None
    memory: int | None = None
    memory_from: str | None = None
    reason: str = ""
    identity: str = ""  # of the rows and features that were scored

    @property
    def pretrained(self) -> bool:
        return self.weights != "random"

    @property
    def seconds(self) -> float | None:
        """What a run has to spend on features and what the head took."""
        return None if self.linear is None else (self.feature_seconds or 0.0) + self.linear.seconds

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON, with `pretrained`."""
        return asdict(self) | {"pretrained": self.pretrained}


@dataclass(frozen=True)
class Advice:
    """The backbone and method that are likely to pay, and why, in sentences."""

    backbone: str
    method: str
    why: list[str]


@dataclass(frozen=True)
class Ranking:
    """The backbones of a probe, the best first.

    `usable_rows` are those of train and val; test takes no part. `scored_rows` are those that heads were fitted to and
    scored on. `state` says whether every backbone was scored on all rows (`complete`), the budget was short, or someone
    stopped the probe.
    """

    data: str
    task: str
    metric: str
    usable_rows: int
    test_rows: int
    scored_rows: int
    folds: int
    budget: float
    seconds: float
    state: State
    baseline: float | None
    backbones: list[RankedBackbone]
    advice: Advice | None = None
    spec: str = ""
    notes: list[str] = field(default_factory=list)
    files: list[tuple[str, int, int]] = field(default_factory=list)  # path, bytes, time of the last change in ns

    def __repr__(self) -> str:
        lines = [f"Ranking of {self.data} by {self.metric}, {self.folds} folds of {self.scored_rows:,} rows"]
        for one in self.backbones:
            if one.linear is None or one.linear.score is None:
                lines.append(f"{one.name}: {one.reason or 'no score'}")
            else:
                low, high = one.linear.interval or (math.nan, math.nan)
                lines.append(f"{one.name}: {one.linear.score:.3f} (95% CI {low:.3f} to {high:.3f})")
        advised = [] if self.advice is None else [f"likely to pay: {self.advice.backbone}, {self.advice.method}"]
        return "\n".join([*lines, *advised])

    def to_json(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        return {"schema": SCHEMA} | asdict(self) | {"backbones": [one.to_json() for one in self.backbones]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Ranking:
        """Return the ranking of a document. Raises ValueError for one of another version or shape."""
        from pydantic import TypeAdapter

        if content.get("schema") != SCHEMA:
            raise ValueError("another version")
        return TypeAdapter(cls).validate_python(content)


def sorted_backbones(backbones: list[RankedBackbone]) -> list[RankedBackbone]:
    """Return the best first; then those with random weights, whatever they score; then those without a score."""

    def place(one: RankedBackbone) -> tuple[int, float]:
        score = one.linear.score if one.linear is not None else None
        return (2 if score is None else 0 if one.pretrained else 1, -(score or 0.0))

    return sorted(backbones, key=place)


# Rankings of former probes, for those that continue them and for the wizard.


def ranking_file(spec: RunSpec, input: Input) -> Path:
    """Return the path of the ranking of a spec's data, the same for the same files, columns, task, split and seed.

    `input` is the input column, or columns, that the data was found to have.
    """
    data = absolute_data(spec.data).model_dump() | {"input": input, "modality": None}
    key = json.dumps({"data": data, "task": spec.task, "seed": spec.train.seed}, sort_keys=True)
    return cache_folder() / "rankings" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def store_ranking(ranking: Ranking, spec: RunSpec, input: Input) -> None:
    """Store a ranking. A disk that does not take it costs the next probe some seconds, and nothing else."""
    file = ranking_file(spec, input)
    with suppress(OSError, CheckpointError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, ranking.to_json(), durable=False)


def stored_ranking(spec: RunSpec, input: Input) -> Ranking | None:
    """Return the stored ranking of a spec's data; None where there is none, or where a file has changed since."""
    try:
        content = read_json(ranking_file(spec, input))
        ranking = Ranking.from_json(content if isinstance(content, dict) else {})
    except (CheckpointError, SpecError, ValueError):
        return None
    return ranking if all(file_stamp(Path(path)) == (path, size, at) for path, size, at in ranking.files) else None


def file_stamp(file: Path) -> tuple[str, int, int] | None:
    """Return the path of a file, its size and the time of its last change; None where it is gone."""
    try:
        found = file.stat()
    except OSError:
        return None
    return str(file), found.st_size, found.st_mtime_ns
