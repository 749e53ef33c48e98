"""How long the command line takes to answer."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.lines import Measured, Settings, line


@line("help", "`deeptune --help` over `python -c pass`", at_most=10)
def help_over_nothing(settings: Settings) -> Measured:
    """Medians of turns: each command once, then each again."""
    commands = {"help": ("-m", "deeptune", "--help"), "pass": ("-c", "pass")}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(4 if settings.quick else 21):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            if turn:  # the first reads files that are in memory from then on
                seconds[name].append(time.perf_counter() - started)
    ours, theirs = (statistics.median(seconds[name]) for name in commands)
    return Measured(ours / theirs, f"{1000 * ours:.0f} ms against {1000 * theirs:.0f} ms, medians of {turn}")
