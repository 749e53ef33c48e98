"""A cell of the comparison, and the file in which finished cells are kept."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = "cells.jsonl"


@dataclass(frozen=True)
class Cell:
    """One training: `recipe` on `size` rows of `data` ("all" for every row), drawn by `seed`.

    `backbone` is a name of `deeptune backbones`, with `@PIXELS` for an image size. `seed` also draws the training's own
    random numbers.
    """

    data: str
    size: str
    backbone: str
    recipe: str
    seed: int

    @property
    def place(self) -> tuple[str, str, str, int]:
        """What recipes are compared within: the same rows and the same backbone."""
        return self.data, self.size, self.backbone, self.seed

    @property
    def key(self) -> str:
        """The cell as one word."""
        return "/".join(map(str, asdict(self).values()))


@dataclass(frozen=True)
class Result:
    """A finished cell: its scores on test, and the wall and CPU time of it all; or why there are none.

    `standard_error` is that of the accuracy or R², from the number of test rows.
    """

    cell: Cell
    scores: dict[str, float]
    standard_error: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    failed: str | None = None

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def of(cls, values: dict[str, Any]) -> Result:
        return cls(**{**values, "cell": Cell(**values["cell"])})


def read_results(folder: Path) -> list[Result]:
    """Return the finished cells of a folder, each once: the last line of a cell counts.

    A line that a killed process left incomplete is passed over.
    """
    found: dict[Cell, Result] = {}
    for values in read_lines(folder / RESULTS):
        result = Result.of(values)
        found[result.cell] = result
    return list(found.values())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; an incomplete line is passed over, and no file is an empty one."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def append_result(folder: Path, result: Result) -> None:
    """Add a finished cell. An incomplete last line is closed first, so that it costs no other."""
    path = folder / RESULTS
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(result.line().encode())
        file.flush()
        os.fsync(file.fileno())


def pairs(results: Iterable[Result], recipe: str, against: str) -> list[tuple[Result, Result]]:
    """Return the results of two recipes side by side, where both have the same rows and the same backbone."""
    places: dict[object, dict[str, Result]] = defaultdict(dict)
    for result in results:
        if result.failed is None:
            places[result.cell.place][result.cell.recipe] = result
    return [(found[recipe], found[against]) for found in places.values() if recipe in found and against in found]
