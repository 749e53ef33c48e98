"""In the list of runs: names, tags, notes, the filter, a pinned run; charts that zoom; metrics found by name."""

from __future__ import annotations

from contextlib import closing

import pytest
from driving import drive, picture, shows, until

from deeptune.errors import SpecError
from deeptune.runs import EventWriter, RunDirectory, write_json, write_text
from deeptune.runs.notes import Notes, read_notes, write_notes
from deeptune.show.chart import Chart as ChartData
from deeptune.show.chart import draw, moved, zoomed
from deeptune.show.filters import make_filter
from deeptune.show.series import Series, column
from tui.app import DeepTuneApp
from tui.options import Options
from tui.screens.compare import CompareScreen
from tui.screens.monitor import MonitorScreen
from tui.widgets.chart import Chart


def write_run(root, name: str, *, accuracy: float = 0.5, state: str = "done", epochs: int = 4) -> RunDirectory:
    run = RunDirectory(root / name)
    run.path.mkdir(parents=True)
    write_text(run.spec, f'name = "{name}"\n[data]\npath = "x.parquet"\n')
    write_json(run.metrics, {"test": {"accuracy": accuracy, "n": 3}})
    write_json(run.result, {"state": state, "test": {"accuracy": accuracy}})
    run.lock.touch()
    with closing(EventWriter(run.events)) as events:
        for epoch in range(1, epochs + 1):
            val = {"loss": 1 / epoch, "accuracy": accuracy * epoch / epochs, "macro_f1": 0.1}
            events.record("epoch", epoch=epoch, epochs=epochs, train={"loss": 0.9 / epoch}, val=val, best=True)
    return run


def app_of(tmp_path, **options) -> DeepTuneApp:
    return DeepTuneApp(Options(root=tmp_path, **options))


def test_a_run_is_named_tagged_and_annotated_by_keys(tmp_path):
    run = write_run(tmp_path, "one-run")

    async def steps(pilot):
        await shows(pilot, "one-run")
        await pilot.press("t")
        await shows(pilot, "About one-run")
        await pilot.press(*"best", "tab", *"paper", "space", "#", *"v2", "tab", *"48px", "enter")
        await until(pilot, lambda: bool(read_notes(run)))
        await shows(pilot, "#paper #v2")
        shown = picture(pilot.app)
        assert "best" in shown
        assert "48px" in shown
        assert "folder    one-run" in shown  # its folder keeps its name

    drive(app_of(tmp_path), steps, size=(160, 45))
    assert read_notes(run) == Notes("best", "48px", ("paper", "v2"))


def test_a_session_that_may_only_look_writes_no_notes(tmp_path):
    run = write_run(tmp_path, "one-run")

    async def steps(pilot):
        await shows(pilot, "one-run")
        screen = pilot.app.screen
        await pilot.press("t")
        await pilot.app.workers.wait_for_complete()
        assert pilot.app.screen is screen

    drive(app_of(tmp_path, read_only=True), steps)
    assert not run.notes.exists()


def test_the_filter_takes_tags_states_and_metrics(tmp_path):
    write_notes(write_run(tmp_path, "high", accuracy=0.9), Notes(tags=("paper",)))
    write_run(tmp_path, "low", accuracy=0.4)
    write_run(tmp_path, "broken", accuracy=0.95, state="failed")

    async def steps(pilot):
        async def found(text: str) -> set[str]:
            box = pilot.app.screen.query_one("#filter")
            box.value = text
            await pilot.pause()
            return (
                {row.run.id for row in pilot.app.screen._shown.values()}
                if "Escape" not in picture(pilot.app)
                else set()
            )

        await shows(pilot, "broken")
        await pilot.press("slash")
        assert await found("accuracy>0.8") == {"high", "broken"}
        assert await found("accuracy>0.8 state:done") == {"high"}
        assert await found("tag:paper") == {"high"}
        assert await found("tag:nothing") == set()
        assert "accuracy>0.8" in picture(pilot.app)  # how a filter is written
        await found("acuracy>0.8")
        assert "Did you mean 'accuracy'" in picture(pilot.app)

    drive(app_of(tmp_path), steps)


def test_as_many_runs_are_compared_as_have_room(tmp_path):
    for number in range(9):
        write_run(tmp_path, f"run-{number}", accuracy=0.1 * number)

    async def marked(pilot) -> int:
        await shows(pilot, "run-8")
        for _ in range(9):
            await pilot.press("space")
        count = len(pilot.app.screen._marked)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await shows(pilot, f"{0.1 * 8:.3f}")
        return count

    async def wide(pilot):
        assert await marked(pilot) == 8
        assert "H " in picture(pilot.app)

    async def narrow(pilot):
        assert await marked(pilot) == 3

    drive(app_of(tmp_path), wide, size=(160, 45))
    drive(app_of(tmp_path), narrow, size=(80, 24))


def test_charts_zoom_around_the_cursor_and_back(tmp_path):
    runs = [write_run(tmp_path, name, epochs=40) for name in ("a-run", "b-run")]
    app = app_of(tmp_path)

    async def steps(pilot):
        app.open_compare(runs)
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and all(f.spec for f in app.screen.facts))
        await pilot.pause()
        screen, widget = app.screen, app.screen.query_one("#first", Chart)
        await pilot.press("plus")
        assert screen._window == (20.5, 40.0)
        await pilot.press("left", "minus")
        assert screen._window is None
        await pilot.press("plus", "plus", "0")
        assert screen._window is None
        await pilot.press("plus", *["left"] * 200)  # beyond the edge the window moves
        low, high = screen._window
        assert low == 1
        assert high - low == 19.5
        assert widget.cursor is not None
        await pilot.press("escape")
        assert screen._window is None
        assert app.screen is screen

    drive(app, steps)


def test_a_zoomed_chart_is_scaled_to_what_is_seen():
    series = Series("a", column(range(100)), column([1000.0] + [1.0 + 0.01 * n for n in range(99)]), "first")
    whole = ChartData([series])
    window = zoomed(whole, None, 0.5, None)
    assert window == (49.5, 99.0)
    assert zoomed(whole, window, 2, None) is None
    assert moved(whole, window, -5) == (0, 49.5)
    text = "\n".join("".join(text for text, _ in row) for row in draw(ChartData([series], window=window), 60, 12).rows)
    assert "1000" not in text.replace("1,000", "1000")
    assert "1.8" in text


def test_a_metric_is_found_by_a_part_of_its_name(tmp_path):
    runs = [write_run(tmp_path, name) for name in ("a-run", "b-run")]
    app = app_of(tmp_path)

    async def steps(pilot):
        app.open_compare(runs)
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and all(f.spec for f in app.screen.facts))
        await pilot.pause()
        await pilot.press("f")
        await shows(pilot, "val/macro_f1")
        await pilot.press(*"acc", "enter")
        await shows(pilot, "val accuracy")

    drive(app, steps)


def test_a_pinned_run_is_drawn_behind_another(tmp_path):
    write_run(tmp_path, "a-run", epochs=3)
    write_notes(write_run(tmp_path, "b-run", epochs=5), Notes("base line", tags=("old",)))
    app = app_of(tmp_path)

    async def steps(pilot):
        await shows(pilot, "base line")
        await pilot.press("p")
        assert app.pinned == app.screen._current().run
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, MonitorScreen) and app.screen._pinned is not None)
        screen = app.screen
        await until(pilot, lambda: len(screen._pinned[0].epochs) > 0 and len(screen.view.epochs) > 0)
        await shows(pilot, "a pinned run behind")
        drawn = screen.query_one("#first", Chart)._make()
        assert drawn.series[0].name == "pinned"
        assert drawn.series[0].quiet
        assert list(drawn.series[0].y) == [1 / epoch for epoch in range(1, 1 + len(screen._pinned[0].epochs))]
        await pilot.press("plus")
        assert screen.setting.window is not None
        await pilot.press("escape")
        assert screen.setting.window is None
        await pilot.press("f", *"macro", "enter")
        await shows(pilot, "Macro F1")
        await pilot.press("escape", "up", "p")
        await until(pilot, lambda: app.pinned is None)

    drive(app, steps, size=(120, 34))


def test_the_monitor_shows_name_and_tags(tmp_path):
    run = write_run(tmp_path, "a-run")
    write_notes(run, Notes("the final one", tags=("paper",)))
    app = app_of(tmp_path)

    async def steps(pilot):
        app.open_monitor(run)
        await shows(pilot, "the final one #paper")

    drive(app, steps)


def test_a_state_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(SpecError, match="there is no state 'finished'") as raised:
        make_filter("state:finished")
    assert "stopped" in str(raised.value.hint)
    make_filter("state:")  # while it is typed
    make_filter("state:fail")
