"""A run's embeddings as a scatter plot by class, and the model's input of the row under the cursor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

import deeptune.spec  # noqa: F401  # here: two threads that import it at once would find half of it
from deeptune.data.run_samples import RunSamples, Sample
from deeptune.errors import DataError, DeepTuneError
from deeptune.formatting import visible
from deeptune.report.embedding_points import Points, read_points, splits_of
from deeptune.runs import RunDirectory
from deeptune.show.scatter import sign_of, style_of
from tui.compositor import FrugalCompositor
from tui.screens.base import DeepTuneScreen
from tui.widgets.changing_text import Line
from tui.widgets.sample import SampleView
from tui.widgets.scatter import Scatter


class EmbeddingsScreen(DeepTuneScreen):
    """Shows the scatter with its classes, and the row under the cursor with its label, prediction and input."""

    CSS_PATH = "embeddings.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "split", "Split", id="embeddings.split", tooltip="The next split"),
        Binding("f", "bright(1)", "Class", id="embeddings.next", tooltip="The next class stands out"),
        Binding("F", "bright(-1)", show=False, id="embeddings.before", tooltip="The class before stands out"),
        Binding("o", "alone", "Only it", id="embeddings.only", tooltip="Only the class that stands out, and back"),
        Binding("y", "copy", "Copy", show=False, id="embeddings.copy", tooltip="Copy the number of the row"),
        Binding("escape,q", "back", "Back", id="embeddings.back", tooltip="Put the cursor away, or leave"),
    ]

    class Read(Message):
        def __init__(self, split: str, found: Points | DeepTuneError) -> None:
            super().__init__()
            self.split, self.found = split, found

    class Seen(Message):
        """Posted with what was read of a point."""

        def __init__(self, points: Points, index: int, found: Sample) -> None:
            super().__init__()
            self.points, self.index, self.found = points, index, found

    class Checked(Message):
        """Posted with the change of the data since the run, if there is one."""

        def __init__(self, note: str) -> None:
            super().__init__()
            self.note = note

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._compositor = FrugalCompositor()
        self.run = run
        self.where = f"{run.id} · embeddings"
        self.split = ""
        self.points: Points | None = None
        self._samples = RunSamples(run)
        self._changed = ""
        self._seen: tuple[Points, int] | None = None  # whose input is shown, or being read

    def body(self) -> Iterable[Widget]:
        yield Line(id="caption")
        with Horizontal(id="plane"):
            yield Scatter(id="scatter")
            with Vertical(id="beside"):
                yield OptionList(id="classes", markup=False, compact=True)
                yield Line(id="row")
                yield SampleView(id="input")

    def on_mount(self) -> None:
        super().on_mount()
        options = self.deeptune.options
        scatter = self.query_one(Scatter)
        scatter.letters = True if not options.dots or not options.color else None
        scatter.focus()
        self._open(next(iter(splits_of(self.run)), ""))

    # Reading.

    def _open(self, split: str) -> None:
        self.split = split
        caption = self.query_one("#caption", Line)
        if not split:
            caption.say(f"There are no embeddings in {visible(self.run.path)} yet: they are written when a run ends.")
            return
        caption.say(f"{split}: reading the embeddings and computing their principal components ...")
        self._read(split)

    @work(thread=True, exclusive=True, group="points")
    def _read(self, split: str) -> None:
        found: Points | DeepTuneError
        try:
            found = read_points(self.run, split)
        except DeepTuneError as error:
            found = error
        except MemoryError:
            found = DataError("the embeddings do not fit in memory")
        self.post_message(self.Read(split, found))

    @on(Read)
    def _take(self, message: Read) -> None:
        if message.split != self.split:
            return
        if isinstance(message.found, DeepTuneError):
            self.query_one("#caption", Line).say(Content.assemble((f"! {visible(message.found.message)}", "$warning")))
            return
        self.points = points = message.found
        self._list(points)
        self.query_one(Scatter).plot(points)
        self._draw()

    def _list(self, points: Points) -> None:
        counts = [0] * len(points.names)
        for group in points.group.tolist():
            counts[group] += 1
        classes = self.query_one("#classes", OptionList)
        classes.clear_options()
        classes.add_options(
            [Option(Content(f"  all {len(points.group):,}"))]
            + [
                Option(
                    Content.assemble(
                        (f"{sign_of(group)} ", f"bold ${style_of(group, ordered=points.ordered)}"),
                        f"{visible(name)} ",
                        (f"{count:,}", "$text-muted"),
                    )
                )
                for group, (name, count) in enumerate(zip(points.names, counts, strict=True))
            ]
        )
        classes.highlighted = 0

    # Drawing.

    @on(Scatter.Moved)
    def _draw(self) -> None:
        """Update the caption and the point under the cursor."""
        points, scatter = self.points, self.query_one(Scatter)
        if points is None or scatter.scene is None:
            return
        self.query_one("#caption", Line).say(_caption(points, scatter.zoom))
        cursor = scatter.scene.cursor
        self.query_one("#row", Line).say(self._row(points, cursor))
        if cursor is None:
            self._seen = None
            self.query_one(SampleView).show(None)
        elif self._seen is None or self._seen != (points, cursor):
            if self._seen is None:
                self._check()
            self._seen = points, cursor
            self._see(points, cursor)

    def _row(self, points: Points, cursor: int | None) -> Content:
        if cursor is None:
            return Content.styled("arrows: a point", "$text-muted")
        row, label = int(points.rows[cursor]), points.label(cursor)
        parts = [(f"row {row:,}  ", "bold"), (visible(label), "$foreground")]
        if (predicted := points.predictions.get(row)) is not None:
            right = points.ordered or predicted == label
            parts.append((f"  {'predicted' if points.ordered else '=' if right else 'x'} {visible(predicted)}",
                         "$text-muted" if points.ordered else "$success" if right else "$error"))  # fmt: skip
        if self._changed:
            parts.append((f"\n! {visible(self._changed)}", "$warning"))
        return Content.assemble(*parts)

    @work(thread=True, exclusive=True, group="sample")
    def _see(self, points: Points, index: int) -> None:
        self.post_message(self.Seen(points, index, self._samples.read(points.split, int(points.rows[index]))))

    @on(Seen)
    def _show(self, message: Seen) -> None:
        if self._seen == (message.points, message.index):
            self.query_one(SampleView).show(message.found)

    @work(thread=True, exclusive=True, group="check")
    def _check(self) -> None:
        self.post_message(self.Checked(self._samples.changed()))

    @on(Checked)
    def _note(self, message: Checked) -> None:
        self._changed = message.note
        self._draw()

    # Keys.

    def action_split(self) -> None:
        if splits := splits_of(self.run):
            at = splits.index(self.split) if self.split in splits else -1
            self._open(splits[(at + 1) % len(splits)])

    def action_bright(self, by: int) -> None:
        classes = self.query_one("#classes", OptionList)
        if classes.option_count:
            classes.highlighted = ((classes.highlighted or 0) + by) % classes.option_count

    @on(OptionList.OptionHighlighted, "#classes")
    def _brighten(self, event: OptionList.OptionHighlighted) -> None:
        scatter = self.query_one(Scatter)
        bright = event.option_index - 1 if event.option_index else None
        alone = scatter.scene is not None and scatter.scene.alone and bright is not None
        scatter.set(bright=bright, alone=alone, **self._hidden(bright, alone))

    @on(OptionList.OptionSelected, "#classes")
    def action_alone(self) -> None:
        scatter = self.query_one(Scatter)
        scene = scatter.scene
        if scene is not None and scene.bright is not None:
            scatter.set(alone=not scene.alone, **self._hidden(scene.bright, not scene.alone))

    def _hidden(self, bright: int | None, alone: bool) -> dict[str, None]:
        """Clear a cursor whose point is not drawn any more."""
        scene = self.query_one(Scatter).scene
        hidden = alone and scene is not None and scene.cursor is not None and scene.group[scene.cursor] != bright
        return {"cursor": None} if hidden else {}

    def action_copy(self) -> None:
        scene = self.query_one(Scatter).scene
        if self.points is not None and scene is not None and scene.cursor is not None:
            self.deeptune.copy(str(int(self.points.rows[scene.cursor])))

    def action_back(self) -> None:
        """Clear the cursor first, then the choice of a class, then close the screen."""
        scatter = self.query_one(Scatter)
        if scatter.scene is not None and scatter.scene.cursor is not None:
            scatter.set(cursor=None)
        elif scatter.scene is not None and scatter.scene.bright is not None:
            self.query_one("#classes", OptionList).highlighted = 0
            scatter.focus()
        else:
            super().action_back()


def _caption(points: Points, zoom: float) -> Content:
    shown, first, second = len(points.rows), *points.explained
    rows = f"{shown:,} rows" if shown == points.total else f"{shown:,} of {points.total:,} rows"
    by = f" by {points.fitted:,} rows" if points.fitted < shown else ""
    near = f" · {zoom:.3g}x" if round(zoom, 3) != 1 else ""
    return Content.assemble(
        (points.split, "bold $primary"),
        f" {rows}",
        (f" · PCA{by}: x {first:.1%}, y {second:.1%} of the variance{near}", "$text-muted"),
    )
