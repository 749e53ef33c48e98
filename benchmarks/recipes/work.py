"""The cells of a comparison one after another, each in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.recipes.cells import Cell, Result, append_result, read_results
from benchmarks.recipes.datasets import DataSet, available, write_files
from benchmarks.recipes.peers import PEERS, NotInstalled
from benchmarks.recipes.scoring import scores, standard_error
from benchmarks.recipes.training import predict

CELL = "--cell"


@dataclass(frozen=True)
class Work:
    """The surroundings of cells: folders of results and data sets, the test rows to score, and the recipes by name."""

    out: Path
    data: Path | None
    test_rows: int | None
    recipes: Mapping[str, tuple[str, ...]]

    def as_json(self, cell: Cell) -> str:
        values = {"out": str(self.out), "data": str(self.data) if self.data else None, "test_rows": self.test_rows}
        return json.dumps({**values, "recipes": self.recipes, "cell": asdict(cell)})


def pending(work: Work, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells without a score; one that failed is tried again."""
    finished = {result.cell for result in read_results(work.out) if result.failed is None}
    return [cell for cell in cells if cell not in finished]


def run_cells(work: Work, cells: Sequence[Cell], say: Callable[[str], None]) -> None:
    """Run what is pending. Raises SystemExit when another process works in the same folder."""
    work.out.mkdir(parents=True, exist_ok=True)
    with (work.out / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SystemExit(
                f"another process runs the cells of {work.out}; wait for it, or choose another --out"
            ) from error
        todo = pending(work, cells)
        say(f"{len(todo):,} of {len(cells):,} cells are to be run")
        for number, cell in enumerate(todo, 1):
            result = _in_a_process(work, cell)
            append_result(work.out, result)
            shown = result.failed or "  ".join(f"{name} {value:.4f}" for name, value in result.scores.items())
            say(f"{number}/{len(todo)} {cell.key}: {shown} ({result.seconds:.0f} s)")


def _in_a_process(work: Work, cell: Cell) -> Result:
    answer = work.out / "answer.json"
    answer.unlink(missing_ok=True)
    environment = {"DEEPTUNE_CACHE": str(work.out / "cache"), "TOKENIZERS_PARALLELISM": "false", **os.environ}
    command = [sys.executable, "-m", "benchmarks.recipes", CELL, work.as_json(cell)]
    with (work.out / "cell.log").open("wb") as log:
        code = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    if answer.exists():
        return Result.of(json.loads(answer.read_text()))
    last = (work.out / "cell.log").read_text(errors="replace").strip().splitlines()[-1:]
    return Result(cell, {}, failed=f"exit code {code}: {''.join(last)}")


def run_one(text: str) -> None:
    """Run the cell that `Work.as_json` describes, and write its result to `answer.json`."""
    values = json.loads(text)
    out, cell = Path(values["out"]), Cell(**values["cell"])
    data = available(Path(values["data"]) if values["data"] else None)[cell.data]()
    files = write_files(data, cell.size, cell.seed, out / "data", values["test_rows"])
    started = time.perf_counter()
    try:
        if cell.recipe in PEERS:
            found = PEERS[cell.recipe].module().predict(cell, data, files)
        else:
            found = predict(cell, data, files, tuple(values["recipes"][cell.recipe]), out / "runs")
    except NotInstalled as reason:
        result = Result(cell, {}, failed=str(reason))
    else:
        seconds, used = time.perf_counter() - started, os.times()
        truth = pq.read_table(files.test)["labels"].to_numpy()
        cpu = used.user + used.system + used.children_user + used.children_system
        error = standard_error(truth, found)
        result = Result(cell, scores(truth, found), error, round(seconds, 3), round(cpu, 3))
    unfinished = out / "answer.part"
    unfinished.write_text(json.dumps(asdict(result)))
    unfinished.replace(out / "answer.json")


def cells_of(
    data: DataSet, sizes: Sequence[str], backbones: Mapping[str, str], seeds: int, recipes: Sequence[str]
) -> list[Cell]:
    """Return the cells of a data set, with what is compared side by side. A size that it does not have is left out."""
    fitting = [
        name
        for name in recipes
        if name not in PEERS or (data.modality in PEERS[name].modalities and data.task in PEERS[name].tasks)
    ]
    kept = [size for size in sizes if size == "all" or int(size) < len(data.train)]
    return [
        Cell(data.name, size, backbones[data.modality], recipe, seed)
        for size in kept
        for seed in range(seeds)
        for recipe in fitting
    ]
