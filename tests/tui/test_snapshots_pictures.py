"""How embeddings and compared runs look. After a change that is meant: pytest --snapshot-update."""

from __future__ import annotations

import pytest
from driving import NOW, until
from test_compare import write_run as run_of
from test_embeddings import write_run

from deeptune.show.comparison import Facts
from tui.app import DeepTuneApp
from tui.options import Options
from tui.widgets.picture import Picture
from tui.widgets.scatter import Scatter
from tui.widgets.styled_lines import Lines

SIZES = pytest.mark.parametrize("size", [(80, 24), (160, 45)], ids="{0[0]}x{0[1]}".format)


def app(root) -> DeepTuneApp:
    return DeepTuneApp(Options(root=root), clock=lambda: NOW)


@SIZES
def test_embeddings(snap_compare, tmp_path, size):
    run, *_ = write_run(tmp_path)

    async def opened(pilot):
        pilot.app.open_embeddings(run)
        await until(pilot, lambda: getattr(pilot.app.screen, "points", None) is not None)
        await until(pilot, lambda: isinstance(pilot.app.focused, Scatter) and pilot.app.focused.scene is not None)
        await pilot.press("n")
        await until(pilot, lambda: pilot.app.screen.query_one(Picture)._rows)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()

    assert snap_compare(app(tmp_path), terminal_size=size, run_before=opened)


@SIZES
def test_comparison(snap_compare, tmp_path, size):
    runs = [run_of(tmp_path, name, rate=rate, accuracy=rate) for name, rate in (("one", 0.25), ("two", 0.75))]

    async def opened(pilot):
        pilot.app.open_compare(runs)
        await until(pilot, lambda: all(each.spec for each in getattr(pilot.app.screen, "facts", [Facts()])))
        table = pilot.app.screen.query_one("#table", Lines)
        await until(pilot, lambda: pilot.app.screen._compared.reason)
        await until(pilot, lambda: table.size.height == len(table._rows))  # what was read last is laid out

    assert snap_compare(app(tmp_path), terminal_size=size, run_before=opened)
