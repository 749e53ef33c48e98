"""The test rows that the model got most wrong, with what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from deeptune.errors import CheckpointError, DeepTuneError
from deeptune.report.tables import safe, significant
from deeptune.runs import RunDirectory
from deeptune.runs.files import read_json
from tui.widgets.picture import Picture

MOST = 100  # examples
LONG = 4000  # characters of a text that are shown


@dataclass(frozen=True)
class Example:
    """A test row: `row` in its source, what was true and predicted, and how sure (or how far off) the model was."""

    row: int
    truth: str
    prediction: str
    how: str

    @property
    def line(self) -> str:
        return f"{self.how:<8}  {self.truth} → {self.prediction}  row {self.row}"


def worst_examples(run: RunDirectory) -> list[Example]:
    """The wrong predictions by confidence, or the numbers by their error; the worst first. None where there is no such
    file, or a damaged one. For a thread."""
    try:
        return _worst(run.predictions, _names(run))
    except (OSError, ValueError, KeyError, NotImplementedError):  # Arrow's errors are among these
        return []


def _names(run: RunDirectory) -> dict[Any, str]:
    """What a class is called, by its value, where classes have names."""
    try:
        labels = read_json(run.labels)
        return dict(zip(labels["values"], labels["names"] or (), strict=False))
    except (CheckpointError, KeyError, TypeError):
        return {}


def _worst(predictions: Path, names: dict[Any, str]) -> list[Example]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(predictions)
    table = table.filter(pc.and_(table["truth"].is_valid(), table["prediction"].is_valid()))
    if "confidence" in table.column_names:
        table = table.filter(pc.not_equal(table["truth"], table["prediction"]))
        order, key = "confidence", table["confidence"]
    else:
        order, key = "error", pc.abs(pc.subtract(table["prediction"], table["truth"]))
    table = table.select(["row", "truth", "prediction"]).append_column("by", key)
    worst = table.sort_by([("by", "descending")]).slice(0, MOST).to_pylist()
    return [
        Example(
            found["row"],
            _value(names.get(found["truth"], found["truth"])),
            _value(names.get(found["prediction"], found["prediction"])),
            f"{found['by']:.0%} sure" if order == "confidence" else f"off by {significant(found['by'])}",
        )
        for found in worst
    ]


def _value(value: Any) -> str:
    return significant(value) if isinstance(value, float) else safe(value).replace("\n", " ")


def read_input(run: RunDirectory, row: int) -> bytes | str:
    """What the model saw of a test row: encoded image bytes, or a text. For a thread; only its row group is read.

    Raises DeepTuneError, OSError or ArrowException when the data has gone or changed.
    """
    from deeptune.data.inputs import resolve_columns
    from deeptune.data.source import Source
    from deeptune.spec.toml import load_spec

    data = load_spec(run.spec).data
    source = Source.open(data.test or data.path or data.train or "")
    _, name = resolve_columns(source, data.modality, data.input)
    file, place = source.locate(row)
    value = _cell(file, name, place)
    return value["bytes"] if isinstance(value, dict) else value


def _cell(path: Path, name: str, row: int) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if row < count:
                return file.read_row_group(group, columns=[name])[name][row].as_py()
            row -= count
    raise IndexError(f"{path} has no such row")


class Examples(Horizontal):
    """A list of them; the one under the cursor is drawn beside it."""

    class Looked(Message):
        """An example is to be read from its source."""

        def __init__(self, example: Example) -> None:
            super().__init__()
            self.example = example

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._examples: list[Example] = []
        self._looked: Example | None = None

    def compose(self) -> ComposeResult:
        yield OptionList(id="worst", markup=False, compact=True)
        with VerticalScroll(id="seen", can_focus=False):
            yield Static(id="said", markup=False)
            yield Picture(id="drawn")

    def tell(self, examples: list[Example], nothing: str) -> None:
        """Show these, or why there are none."""
        options = self.query_one(OptionList)
        hidden, options.display = not options.display, bool(examples)
        if examples and hidden:
            options.focus()
        if examples != self._examples:
            self._examples = examples
            options.clear_options()
            options.add_options(Option(Text(each.line, no_wrap=True, overflow="ellipsis")) for each in examples)
            if examples:
                options.highlighted = 0
        if not examples:
            self.query_one(Picture).show(None)
            self.query_one("#said", Static).update(nothing)

    @on(OptionList.OptionHighlighted)
    def look(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_index < len(self._examples):
            self._looked = self._examples[event.option_index]
            self.post_message(self.Looked(self._looked))

    def draw(self, example: Example, found: bytes | str | DeepTuneError) -> None:
        """Show what was read of an example, unless another one is looked at by now."""
        if example is not self._looked:
            return
        self.query_one(Picture).show(found if isinstance(found, bytes) else None)
        text = found if isinstance(found, str) else "" if isinstance(found, bytes) else found.message
        self.query_one("#said", Static).update(f"{example.line}\n\n{safe(text[:LONG])}")
