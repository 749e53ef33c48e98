"""Draw the pictures of runs in docs/tui.md: `python docs/images/draw.py FOLDER`, in the root of a clone.

FOLDER gets two runs on the sample, unless they are there: the preset `quickstart`, and every weight at 96 pixels,
which is drawn while it learns. The pictures of the wizard are drawn by hand, and so is that of the quickstart.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

from textual.pilot import Pilot

from deeptune.runs import RunDirectory
from deeptune.runs.launch import make_run, start_runner
from deeptune.spec.toml import validate
from tui.app import DeepTuneApp
from tui.options import Options

HERE = Path(__file__).parent
BACKBONE = {"name": "efficientnet_lite0"}
QUICKSTART = {"name": "quickstart", "data": {"path": "sample:openclipart7"}, "backbone": BACKBONE}
FULL = {
    **QUICKSTART,
    "name": "openclipart-full",
    "backbone": {**BACKBONE, "image_size": 96},
    "tuning": {"method": "full"},
}
EPOCHS_SHOWN = 4  # of the run that learns
Steps = Callable[[Pilot[None]], Coroutine[object, object, None]]


def of_name(root: Path, name: str) -> RunDirectory | None:
    """Find the newest run of a name."""
    found = sorted(root.glob(f"{name}-*"))
    return RunDirectory(found[-1]) if found else None


def draw(
    root: Path, name: str, steps: Steps, size: tuple[int, int] = (120, 34), run: RunDirectory | None = None
) -> None:
    """Write the screen that `steps` lead to, on the list of runs or on a run."""
    app = DeepTuneApp(Options(root=root), opens=("run", run.path) if run else None)

    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause(3)
            await steps(pilot)
            await pilot.pause(3)
            svg = app.export_screenshot(title="deeptune-tui")
            (HERE / f"{name}.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")

    asyncio.run(go())


def pressing(*keys: str) -> Steps:
    """Make steps that press keys, with a second after each."""

    async def steps(pilot: Pilot[None]) -> None:
        for key in keys:
            await pilot.press(key)
            await pilot.pause(1)

    return steps


def learning(root: Path) -> RunDirectory:
    """Train with every weight, and draw the run after some epochs."""
    run = make_run(validate(FULL), root)
    process = start_runner(run, asked=["deeptune-tui"])

    async def until_some_epochs(pilot: Pilot[None]) -> None:
        while process.poll() is None and run.events.read_text().count('"kind":"epoch"') < EPOCHS_SHOWN + 1:
            await pilot.pause(0.5)
        await pilot.pause(4)

    draw(root, "tui-live", until_some_epochs, (160, 45), run)
    process.wait()
    return run


def main(root: Path) -> None:
    """Make the runs that are missing, and draw all pictures of runs."""
    root.mkdir(parents=True, exist_ok=True)
    head = of_name(root, "quickstart")
    if head is None:
        head = make_run(validate(QUICKSTART), root)
        start_runner(head, asked=["deeptune", "run", "quickstart"]).wait()
    if of_name(root, "openclipart-full") is None:
        learning(root)
    draw(root, "tui-runs", pressing())
    draw(root, "tui-results", pressing("5"), run=head)
    draw(root, "tui-examples", pressing("6"), run=head)
    draw(root, "tui-embeddings", pressing("e", "n"), run=head)
    draw(root, "tui-compare", pressing("space", "down", "space", "c"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(XDG_STATE_HOME=home, XDG_CONFIG_HOME=home)
        main(Path(sys.argv[1]))
