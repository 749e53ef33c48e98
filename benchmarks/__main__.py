"""Run benchmarks: `python -m benchmarks [--only NAME ...] [--quick] [--device cpu|cuda] [--list]`."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.lines import LINES, Measured, NotMeasured, Settings, machine, table

GROUPS = (
    "startup",
    "tui",
    "wizard",
    "text",
    "partial",
    "compute",
    "embed",
    "memory",
)  # a module each, which adds its lines when imported


def main(arguments: list[str] | None = None) -> int:
    for group in GROUPS:
        importlib.import_module(f"benchmarks.{group}")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios on this machine, as a table.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(LINES), help="these lines, by their names")
    parser.add_argument("--quick", action="store_true", help="few steps: to see that it works, not to quote")
    parser.add_argument("--device", default="cpu", help="where models are: cpu (default) or cuda")
    parser.add_argument("--list", action="store_true", help="names and targets; nothing is measured")
    chosen = parser.parse_args(arguments)
    lines = [LINES[name] for name in chosen.only or LINES]
    if chosen.list:
        for one in lines:
            print(f"{one.name:24}{one.goal:10}{one.what}")
        return 0
    settings = Settings(quick=chosen.quick, device=chosen.device)
    results = []
    for one in lines:
        print(f"measuring {one.name} …", file=sys.stderr, flush=True)
        found: Measured | NotMeasured
        try:
            found = one.measure(settings)
        except NotMeasured as reason:
            found = reason
        results.append((one, found))
    print(table(results))
    print(f"\nMachine: {machine(settings.device)}." + (" Quick: not to be quoted." if settings.quick else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
