"""The home screen: the runs of a folder, their state, and actions on them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import DataTable, Input, Static

from deeptune.errors import DeepTuneError, SpecError
from deeptune.formatting import ago, cut_apart, safe
from deeptune.runs import RunDirectory, run_state, runs_in
from deeptune.runs.notes import read_notes
from deeptune.runs.state import SYMBOLS
from deeptune.show.filters import HELP, make_filter
from deeptune.show.run_text import STYLES, best_of, best_text, progress_text
from tui.screens.base import DeepTuneScreen
from tui.side_by_side import max_compared
from tui.widgets.run_facts import RunFacts
from tui.widgets.run_row import Row, rank, short_best, useful_actions

SORTS = ("age", "name", "state", "best")
COLUMNS = {  # by the breakpoint class of the screen
    "-narrow": ("", "run", "progress", "age"),
    "-normal": ("", "state", "run", "progress", "best", "age"),
    "-wide": ("", "state", "run", "tags", "progress", "best", "backbone", "method", "age"),
}
SOON = ("tui.widgets.monitor.log", "tui.widgets.picture", "tui.screens.monitor")  # what opening a run imports, in parts
PAUSE = 0.1  # seconds before each, in which keys are handled
ID_WIDTH = 16  # columns that an id has at least, however narrow the terminal
END = 7  # columns of its end that an id keeps: what tells it from others


class RunsTable(DataTable[Any]):
    """The list of runs. Space marks a run for comparison."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", id="runs.open", tooltip="Watch the run"),
        Binding("home", "scroll_top", show=False, id="runs.first", tooltip="The first run"),
        Binding("end", "scroll_bottom", show=False, id="runs.last", tooltip="The last run"),
    ]


class RunsScreen(DeepTuneScreen):
    """Shows the runs under `options.root`, and reads them every two seconds while it is visible."""

    where = "Runs"
    CSS_PATH = "runs.tcss"
    AUTO_FOCUS = "RunsTable"  # not the filter, which is hidden and would take the keys
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New run", id="runs.new", tooltip="Make a spec in the wizard"),
        Binding("s", "stop", "Stop", id="runs.stop", tooltip="Stop at the next step, with a checkpoint"),
        Binding("r", "resume", "Resume", id="runs.resume", tooltip="Resume from the last checkpoint"),
        Binding("d", "delete", "Delete", id="runs.delete", tooltip="Remove the run's folder"),
        Binding(
            "slash",
            "filter",
            "Filter",
            key_display="/",
            id="runs.filter",
            tooltip="Only some runs: words, tag:, state:, accuracy>0.8",
        ),
        Binding("space", "mark", "Mark", id="runs.mark", tooltip="Mark the run to compare it"),
        Binding("c", "compare", "Compare", id="runs.compare", tooltip="Compare the marked runs, as many as have room"),
        Binding("t", "notes", "Notes", id="runs.notes", tooltip="Name the run, tag it, write a note"),
        Binding("p", "pin", "Pin", id="runs.pin", tooltip="Draw its curves behind those of other runs, and back"),
        Binding("w", "again", "New run from this spec", id="runs.again", tooltip="A new run from this run's spec"),
        Binding("e", "embeddings", "Embeddings", id="runs.embeddings", tooltip="Scatter of its embeddings"),
        Binding("o", "sort", "Sort", id="runs.sort", tooltip="By age, name, state, best"),
        Binding("escape,q", "leave", "Leave", id="runs.leave", tooltip="Clear the filter, or leave; runs go on"),
    ]

    SHORT: ClassVar[dict[str, str]] = {
        "new": "New", "delete": "Del", "filter": "Find", "again": "Again", "embeddings": "Embed",
    }  # fmt: skip
    DISPENSABLE: ClassVar[tuple[str, ...]] = ("jump", "sort", "pin", "leave", "embeddings")

    class Found(Message):
        def __init__(self, rows: list[Row], problem: str = "") -> None:
            super().__init__()
            self.rows, self.problem = rows, problem

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Row] = []
        self._looked = False  # before the first look nothing is said to be missing
        self._shown: dict[str, Row] = {}
        self._marked: set[Path] = set()
        self._sort = SORTS[0]
        self._drawn: Any = None
        self._known: dict[Path, tuple[Any, Row]] = {}
        self._useful = useful_actions(None)  # what the foot shows
        self._soon = list(SOON)

    def body(self) -> list[Widget]:
        table = RunsTable(id="runs", cursor_type="row", zebra_stripes=False)
        return [
            Input(placeholder=HELP, id="filter", compact=True),
            table,
            Static(id="nothing", markup=False),
            RunFacts(id="facts", markup=False),
        ]

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#filter").display = False
        self.every(2.0, self.look)

    # Reading.

    def look(self) -> None:
        if self.is_mounted:
            self._read()

    @work(thread=True, exclusive=True, group="runs")
    def _read(self) -> None:
        root = self.deeptune.options.root
        try:
            found = [self._row(run) for run in runs_in(root)]
            self.post_message(self.Found(found))
        except DeepTuneError as error:
            self.post_message(self.Found([], error.message))

    def _row(self, run: RunDirectory) -> Row:
        """Read a run. One that is over is read again only if its result has changed."""
        try:
            seen: Any = run.result.stat().st_mtime_ns, run.lock.stat().st_mtime_ns, _changed(run.notes)
        except OSError:
            seen = None
        known = self._known.get(run.path)
        if seen is not None and known is not None and known[0] == seen and known[1].state.over:
            return known[1]
        row = Row(run, run_state(run), run.started, read_notes(run))
        self._known[run.path] = (seen, row)
        return row

    @on(Found)
    def _take(self, message: Found) -> None:
        if not self._looked:
            self.set_timer(PAUSE, self._import_soon)
        self._rows, self._looked = message.rows, True
        if message.problem:
            self.deeptune.tell(message.problem, "error")
        else:
            self._marked &= {row.run.path for row in message.rows}  # a run may be deleted meanwhile
        self._draw()

    def _import_soon(self) -> None:
        """Import the next part of what opening a run needs; in the loop, as imports in two threads may clash."""
        if self._soon:
            import_module(self._soon.pop(0))
            self.set_timer(PAUSE, self._import_soon)

    # Drawing.

    def on_resize(self) -> None:
        self._drawn = None
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        if not self._looked:
            return
        text = self.query_one("#filter", Input).value
        try:
            condition, problem = make_filter(text), ""
        except SpecError as error:
            condition, problem = (lambda _run: False), str(error)
        rows = sorted((row for row in self._rows if row.matches(condition)), key=self._order)
        width = next((name for name in COLUMNS if self.has_class(name)), "-normal")
        tagged = any(row.notes.tags for row in rows)
        columns = tuple(name for name in COLUMNS[width] if name != "tags" or tagged)
        cells = [self._cells(row, columns, width) for row in rows]
        room = self._fit(cells, columns)
        self.retitle_for(len(rows))
        nothing = self.query_one("#nothing", Static)
        nothing.display = not rows
        table = self.query_one(RunsTable)
        table.display = bool(rows)
        if rows and self.focused is None:  # it was hidden, and so lost the focus
            table.focus()
        if not rows:
            nothing.update(problem or self._why_nothing(text))
        drawn = ((columns, room), [row.run.path for row in rows], [[str(cell) for cell in line] for line in cells])
        if drawn == self._drawn:
            return
        before, self._drawn = self._drawn, drawn
        self._shown = {str(row.run.path): row for row in rows}
        if before is None or before[:2] != drawn[:2]:
            self._rebuild(table, columns, room, rows, cells)
            return
        for row, line, old in zip(rows, cells, before[2], strict=True):
            for name, cell, was in zip(columns, line, old, strict=True):
                if str(cell) != was:
                    table.update_cell(str(row.run.path), name, cell, update_width=name != "run")
        self._show_facts()

    def _rebuild(
        self, table: RunsTable, columns: tuple[str, ...], room: int, rows: list[Row], cells: list[list[Text]]
    ) -> None:
        at = self._current()
        table.clear(columns=True)
        for name in columns:
            table.add_column(name, key=name, width={"": 1, "run": room}.get(name))
        for row, line in zip(rows, cells, strict=True):
            table.add_row(*line, key=str(row.run.path))
        if at is not None and str(at.run.path) in self._shown:
            table.move_cursor(row=list(self._shown).index(str(at.run.path)))
        self._show_facts()

    def _cells(self, row: Row, columns: tuple[str, ...], width: str) -> list[Text]:
        state = row.state
        style = self.deeptune.colour(STYLES.get(state.word, ""))
        marked = "◆" if row.run.path in self._marked else ""
        texts = {
            "": Text(marked or SYMBOLS[state.word], style="bold" if marked else style),
            "tags": Text(safe(row.tags)),
            "state": Text(state.word, style=style),
            "run": Text(safe(row.title)),
            "progress": Text(safe(progress_text(state))),
            "best": Text(safe(best_text(state) if width == "-wide" else short_best(state))),
            "backbone": Text(safe(row.backbone)),
            "method": Text(safe(row.method)),
            "age": Text(ago(self._coarse(self.deeptune.clock() - row.made)), justify="right"),
        }
        return [texts[name] for name in columns]

    def _fit(self, cells: list[list[Text]], columns: tuple[str, ...]) -> int:
        """Cut ids in their middle to the width that the other columns leave. Returns that width."""
        at = columns.index("run")
        others = sum(
            max([len(name), *(line[place].cell_len for line in cells)]) + 2
            for place, name in enumerate(columns)
            if place != at
        )
        longest = max((line[at].cell_len for line in cells), default=ID_WIDTH)
        room = min(longest, max(ID_WIDTH, self.query_one(RunsTable).size.width - others - 3))  # padding, a scroll bar
        for line, name in zip(cells, cut_apart([line[at].plain for line in cells], room, end=END), strict=True):
            line[at] = Text(name)
        return room

    @staticmethod
    def _coarse(seconds: float) -> float:
        """Round ages under a minute to ten seconds, as each change is drawn."""
        return seconds if seconds >= 60 else seconds // 10 * 10

    def _order(self, row: Row) -> Any:
        best = best_of(row.state)
        return {
            "age": (-row.made, row.run.id),
            "name": (row.title.lower(), row.run.id),
            "state": (list(SYMBOLS).index(row.state.word), -row.made),
            "best": (*rank(best), -row.made),
        }[self._sort]

    def retitle_for(self, shown: int) -> None:
        total = len(self._rows)
        count = f"{total:,}" if shown == total else f"{shown:,} of {total:,}"
        where = f"Runs · {count} · by {self._sort} · {self.deeptune.options.root}"
        if where != self.where:
            self.retitle(where)

    def _why_nothing(self, text: str) -> str:
        if self._rows:
            return f"No run is {text!r}. A filter takes {HELP}. Escape clears it."
        wizard = "n       make one in the wizard: your Parquet file, a backbone, go\n"
        return (
            f"There are no runs in {self.deeptune.options.root} yet.\n\n"
            f"{'' if self.deeptune.options.read_only else wizard}"
            "ctrl+p  every command, the presets among them\n"
            "F1      all keys\n\n"
            "Or in a shell: deeptune run quickstart"
        )

    # Doing.

    def _current(self) -> Row | None:
        table = self.query_one(RunsTable)
        if not self._shown or not table.row_count or not table.is_valid_row_index(table.cursor_row):
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return self._shown.get(str(key))

    @on(DataTable.RowHighlighted)
    def _highlight(self) -> None:
        self._show_facts()

    def _show_facts(self) -> None:
        row = self._current()
        self.query_one(RunFacts).show(row)
        useful = useful_actions(row, marked=len(self._marked))
        if useful != self._useful:
            self._useful = useful
            self.refresh_bindings()

    def useful(self, action: str) -> bool:
        return self._useful.get(action, True)

    @on(DataTable.RowSelected)
    def open(self) -> None:
        if row := self._current():
            self.deeptune.open_monitor(row.run)

    def action_new(self) -> None:
        self.deeptune.open_wizard()

    def action_again(self) -> None:
        if row := self._current():
            self.deeptune.open_wizard(row.run.spec)

    def action_stop(self) -> None:
        if row := self._current():
            if row.state.over:
                self.deeptune.tell(f"nothing to stop: the run is {row.state.word}")
            else:
                self.deeptune.stop_run(row.run)

    def action_resume(self) -> None:
        if row := self._current():
            self.deeptune.resume_run(row.run)

    def action_delete(self) -> None:
        if row := self._current():
            if row.state.over:
                self.deeptune.delete_run(row.run)
            else:
                self.deeptune.tell(f"the run is {row.state.word}: stop it first", "warning")

    def action_embeddings(self) -> None:
        if row := self._current():
            self.deeptune.open_embeddings(row.run)

    def action_mark(self) -> None:
        if (row := self._current()) is None:
            return
        if row.run.path in self._marked:
            self._marked.remove(row.run.path)
        elif len(self._marked) >= (limit := max_compared(self.size.width)):
            self.deeptune.tell(f"{limit} runs have room beside one another here", "warning")
            return
        else:
            self._marked.add(row.run.path)
        self.query_one(RunsTable).action_cursor_down()
        self._draw()

    def action_compare(self) -> None:
        marked = [row.run for row in self._rows if row.run.path in self._marked]
        if len(marked) >= 2:
            self.deeptune.open_compare(marked)
        else:
            self.deeptune.tell("mark two runs or more with Space, then compare them")

    def action_notes(self) -> None:
        if row := self._current():
            self.deeptune.edit_notes(row.run)

    def action_pin(self) -> None:
        if row := self._current():
            self.deeptune.pin(row.run)

    def action_sort(self) -> None:
        self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        self._draw()

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()

    @on(Input.Changed, "#filter")
    def _filter(self) -> None:
        self._draw()

    @on(Input.Submitted, "#filter")
    def _filtered(self) -> None:
        self.query_one(RunsTable).focus()

    def action_leave(self) -> None:
        box = self.query_one("#filter", Input)
        if box.display:
            box.value = ""
            box.display = False
            self.query_one(RunsTable).focus()
        else:
            self.run_worker(self.app.action_quit())


def _changed(file: Path) -> int:
    """Return when a file was last written, in ns; 0 if there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
