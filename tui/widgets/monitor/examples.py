"""The test rows with the worst predictions: the model's input for them, and what the predictions are based on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from deeptune.data.run_samples import RunSamples, Sample
from deeptune.data.shown import ShownSample
from deeptune.errors import CheckpointError
from deeptune.formatting import safe
from deeptune.report.tables import significant
from deeptune.runs import RunDirectory
from deeptune.runs.files import read_json
from deeptune.show.explanations import StoredExplanation, read_explanations
from tui.widgets.changing_text import Line
from tui.widgets.monitor.explainer import Explainer, tokens_content
from tui.widgets.sample import SampleView

if TYPE_CHECKING:
    from tui.app import DeepTuneApp

MOST = 100  # examples, at most
TOGETHER = 8  # rows that are explained at once: a set of five or more can be compared with chance
HOW = 8  # cells of how sure, or how far off, the model was
OFF_BY = "off by "  # in the list it stands above the numbers, which leaves room for the row


@dataclass(frozen=True)
class Example:
    """A test row: `row` in its source, its truth and prediction, and the model's confidence or error."""

    row: int
    truth: str
    prediction: str
    how: str
    explained: StoredExplanation | None = None

    @property
    def line(self) -> str:
        return self._said(self.how.removeprefix(OFF_BY))

    @property
    def title(self) -> str:
        return self._said(self.how)

    def _said(self, how: str) -> str:
        mark = "•" if self.explained is not None else " "
        return f"{how:<{HOW}} {mark}{self.truth} → {self.prediction}  row {self.row}"


def worst_examples(run: RunDirectory) -> list[Example]:
    """Read the worst predictions: wrong classes by confidence, or numbers by error.

    Returns an empty list where the file is missing or damaged. Takes long, so a thread calls it.
    """
    try:
        return _worst(run.predictions, _names(run), read_explanations(run))
    except (OSError, ValueError, KeyError, NotImplementedError):  # Arrow's errors are among these
        return []


def _names(run: RunDirectory) -> dict[Any, str]:
    """Return the names of the classes by their values, if they have names."""
    try:
        labels = read_json(run.labels)
        return dict(zip(labels["values"], labels["names"] or (), strict=False))
    except (CheckpointError, KeyError, TypeError):
        return {}


def _worst(predictions: Path, names: dict[Any, str], explained: dict[int, StoredExplanation]) -> list[Example]:
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
            f"{found['by']:.0%} sure" if order == "confidence" else f"{OFF_BY}{significant(found['by'])}",
            explained.get(found["row"]),
        )
        for found in worst
    ]


def _value(value: Any) -> str:
    return significant(value) if isinstance(value, float) else safe(value).replace("\n", " ")


class Examples(Horizontal):
    """Shows a list of examples, and beside it the model's input of the one under the cursor, or its explanation."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "x", "explain", "Explain", id="examples.explain", tooltip="What the predictions from here on are based on"
        ),
    ]

    class Seen(Message):
        """Posted with what was read of an example."""

        def __init__(self, example: Example, found: Sample) -> None:
            super().__init__()
            self.example, self.found = example, found

    def __init__(self, run: RunDirectory, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._samples = RunSamples(run)
        self._explainer = Explainer(run)
        self._examples: list[Example] = []
        self._looked: Example | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="listed"):
            yield Line(f"{'':{HOW}}  true → predicted", id="worst-head")
            yield OptionList(id="worst", markup=False, compact=True)
            yield self._explainer
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
            at, self._examples = options.highlighted or 0, examples
            how = OFF_BY if examples and examples[0].how.startswith(OFF_BY) else ""
            self.query_one("#worst-head", Line).say(f"{how:{HOW}}  true → predicted")
            options.clear_options()
            options.add_options(Option(Text(each.line, no_wrap=True, overflow="ellipsis")) for each in examples)
            if examples:
                options.highlighted = min(at, len(examples) - 1)
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
        found = self._samples.read("test", example.row)
        if example.explained is not None and example.explained.picture is not None:
            text = found.text if isinstance(found, ShownSample) else None
            with suppress(OSError):  # a file that is gone leaves the sample as it is
                found = ShownSample(example.explained.picture.read_bytes(), text)
        self.post_message(self.Seen(example, found))

    @on(Seen)
    def _show(self, message: Seen) -> None:
        if message.example is self._looked:
            explained, text = message.example.explained, f"{message.example.title}\n"
            if explained is not None:
                verdict = safe(explained.verdict).replace("gain over random orders", "mean gain")
                text += f"{explained.gains}. {verdict}\n"
            self.query_one("#example-text", Line).say(text)
            words = None
            if explained is not None and explained.tokens:
                color = cast("DeepTuneApp", self.app).options.color
                words = tokens_content(explained, color=color)
            self.query_one(SampleView).show(message.found, words)

    # What predictions are based on.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable explaining where nothing may be started."""
        return action != "explain" or (bool(self._examples) and not cast("DeepTuneApp", self.app).options.read_only)

    def action_explain(self) -> None:
        """Explain the rows from the cursor on. While that works, ask whether to cancel it."""
        at = self.query_one(OptionList).highlighted or 0
        self._explainer.start([each.row for each in self._examples[at : at + TOGETHER]])
