"""Compare recipes: `python -m benchmarks.recipes --data FOLDER --out DIR`, then `… report --out DIR`.

A finished cell is a line of `cells.jsonl` in the output folder. A second start runs only what is missing.
"""

from __future__ import annotations

import argparse
import fnmatch
import subprocess
import sys
from pathlib import Path

from benchmarks.recipes.cells import Cell, read_results
from benchmarks.recipes.datasets import available
from benchmarks.recipes.peers import PEERS
from benchmarks.recipes.recipes import RECIPES
from benchmarks.recipes.report import report
from benchmarks.recipes.work import CELL, Work, cells_of, pending, run_cells, run_one


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == [CELL]:
        run_one(given[1])
        return 0
    chosen = _parser().parse_args(given)
    if chosen.action == "report":
        print(report(read_results(chosen.out), chosen.against))
        return 0
    recipes = {**RECIPES, **{name: tuple(settings) for name, *settings in chosen.define}}
    names = chosen.recipes or [*recipes, *PEERS]
    if unknown := [name for name in names if name not in recipes and name not in PEERS]:
        raise SystemExit(f"no recipe or peer is called {unknown[0]!r}; there are {', '.join([*recipes, *PEERS])}")
    work = Work(chosen.out.absolute(), chosen.data and chosen.data.absolute(), chosen.test_rows, recipes)
    cells = _cells(chosen, names)
    if chosen.list:
        todo = set(pending(work, cells))
        for cell in cells:
            print(f"{'to do' if cell in todo else 'done ':6} {cell.key}")
        return 0
    if chosen.detach:
        work.out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.recipes", *(one for one in given if one != "--detach")]
        with (work.out / "log.txt").open("ab") as log:
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        print(f"process {started.pid} runs {len(pending(work, cells)):,} cells; it writes to {work.out / 'log.txt'}")
        return 0
    run_cells(work, cells, lambda text: print(text, flush=True))
    return 0


def _cells(chosen: argparse.Namespace, names: list[str]) -> list[Cell]:
    """Return the cells that are asked for, seed by seed, so that an early report has every data set."""
    sets = available(chosen.data)
    if unknown := [name for name in chosen.sets or () if name not in sets]:
        raise SystemExit(f"no data set is called {unknown[0]!r}; there are {', '.join(sets)} (--data names a folder)")
    backbones = {"image": chosen.image_backbone, "text": chosen.text_backbone}
    cells = [
        cell
        for name in chosen.sets or sets
        for cell in cells_of(sets[name](), chosen.sizes, backbones, chosen.seeds, names)
    ]
    return sorted(
        (cell for cell in cells if any(fnmatch.fnmatch(cell.key, pattern) for pattern in chosen.only)),
        key=lambda cell: cell.seed,
    )


def _size(text: str) -> str:
    if text != "all" and not (text.isascii() and text.isdigit() and int(text) >= 10):
        raise argparse.ArgumentTypeError(f"expected 'all' or at least 10 rows, got {text!r}")
    return text


def _parser() -> argparse.ArgumentParser:
    peers = "; ".join(f"{peer.name}: {peer.what}" for peer in PEERS.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recipes",
        description=__doc__,
        epilog=f"Recipes: {', '.join(RECIPES)}. Peers: {peers}.",
    )
    add = parser.add_argument
    add(
        "action",
        nargs="?",
        choices=["run", "report"],
        default="run",
        help="run cells (default), or print what they gave",
    )
    add("--out", type=Path, default=Path("recipes"), metavar="DIR", help="results, runs and caches (default: recipes)")
    add("--data", type=Path, metavar="FOLDER", help="NAME_train.parquet and NAME_test.parquet for each data set")
    add("--sets", nargs="+", metavar="NAME", help="these data sets; all that there are by default")
    add(
        "--sizes", nargs="+", type=_size, default=["150", "400", "1000", "all"], metavar="ROWS", help="rows to train on"
    )
    add("--seeds", type=int, default=5, help="splits and seeds of each (default: 5)")
    add("--recipes", nargs="+", metavar="NAME", help="these recipes and peers; all by default")
    add("--define", nargs="+", action="append", default=[], metavar=("NAME", "KEY=VALUE"), help="add a recipe")
    add(
        "--only", nargs="+", default=["*"], metavar="PATTERN", help="cells data/size/backbone/recipe/seed, with * and ?"
    )
    add("--image-backbone", default="efficientnet_lite0", metavar="NAME[@PIXELS]")
    add("--text-backbone", default="minilm", metavar="NAME")
    add("--test-rows", type=int, metavar="N", help="score at most N test rows, the same in every cell")
    add("--list", action="store_true", help="list the cells; nothing is run")
    add("--detach", action="store_true", help="run in the background, past the end of this terminal")
    add("--against", default="head", metavar="NAME", help="what a report compares with (default: head)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
