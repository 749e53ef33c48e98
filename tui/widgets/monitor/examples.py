"""The test rows with the worst predictions, and the model's input for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from deeptune.data.shown_samples import Sample, Samples
from deeptune.errors import CheckpointError
from deeptune.report.tables import safe, significant
from deeptune.runs import RunDirectory
from deeptune.runs.files import read_json
from tui.widgets.line import Line
from tui.widgets.sample import SampleView

MOST = 100  # examples
HOW = 8  # cells of how sure, or how far off, the model was


@dataclass(frozen=True)
class Example:
    """A test row: `row` in its source, its truth and prediction, and the model's confidence or error."""

    row: int
    truth: str
    prediction: str
    how: str

    @property
    def line(self) -> str:
        return f"{self.how:<{HOW}}  {self.truth} → {self.prediction}  row {self.row}"


def worst_examples(run: RunDirectory) -> list[Example]:
    """Read the worst predictions: wrong classes by confidence, or numbers by error.

    Returns an empty list where the file is missing or damaged. Takes long, so a thread calls it.
    """
    try:
        return _worst(run.predictions, _names(run))
    except (OSError, ValueError, KeyError, NotImplementedError):  # Arrow's errors are among these
        return []


def _names(run: RunDirectory) -> dict[Any, str]:
    """Return the names of the classes by their values, if they have names."""
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


class Examples(Horizontal):
    """Shows a list of examples, and beside it the model's input of the one under the cursor."""

    class Seen(Message):
        """Posted with what was read of an example."""

        def __init__(self, example: Example, found: Sample) -> None:
            super().__init__()
            self.example, self.found = example, found

    def __init__(self, run: RunDirectory, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._samples = Samples(run)
        self._examples: list[Example] = []
        self._looked: Example | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="listed"):
            yield Line(f"{'':{HOW}}  true → predicted", id="worst-head")
            yield OptionList(id="worst", markup=False, compact=True)
        with Vertical(id="seen"):
            yield Line(id="example-text")
            yield SampleView()

    def tell(self, examples: list[Example], nothing: str) -> None:
        """Show the examples, or why there are none."""
        options = self.query_one(OptionList)
        listed = self.query_one("#listed")
        hidden, listed.display = not listed.display, bool(examples)
        if examples and hidden:
            options.focus()
        if examples != self._examples:
            self._examples = examples
            options.clear_options()
            options.add_options(Option(Text(each.line, no_wrap=True, overflow="ellipsis")) for each in examples)
            if examples:
                options.highlighted = 0
        if not examples:
            self.query_one("#example-text", Line).say(nothing)
            self.query_one(SampleView).show(None)

    @on(OptionList.OptionHighlighted)
    def look(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_index < len(self._examples):
            self._looked = self._examples[event.option_index]
            self._see(self._looked)

    @work(thread=True, exclusive=True, group="example")
    def _see(self, example: Example) -> None:
        self.post_message(self.Seen(example, self._samples.read("test", example.row)))

    @on(Seen)
    def _show(self, message: Seen) -> None:
        if message.example is self._looked:
            self.query_one("#example-text", Line).say(f"{message.example.line}\n")
            self.query_one(SampleView).show(message.found)
