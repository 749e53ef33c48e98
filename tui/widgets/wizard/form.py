"""The fields of a step: common ones, and all others behind a fold."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message

from deeptune.catalog import find
from deeptune.errors import WeightsError
from deeptune.spec.fields import SpecField
from deeptune.spec.modalities import MODALITIES
from tui.draft import Draft
from tui.widgets.changing_text import Line
from tui.widgets.wizard.facts import Facts
from tui.widgets.wizard.field import FieldRow
from tui.widgets.wizard.paths import PathRow

# Sections of the spec by step. A section that is not named here is shown with the training.
SECTIONS = {"Data": ("data",), "Backbone": ("backbone",), "Head": ("head",), "Tuning": ("tuning",), "Review": ("name",)}
COMMON = (
    "data.path", "data.label", "task", "data.input", "data.group",
    "backbone.name", "backbone.weights", "backbone.image_size", "backbone.max_length",
    "backbone.text.name", "backbone.text.weights", "backbone.text.max_length",
    "head.layers", "head.embedding_size", "head.activation", "head.dropout",
    "tuning.method", "tuning.lora.rank", "tuning.lora.alpha",
    "train.epochs", "train.batch_size", "train.learning_rate", "train.precision", "train.device", "name",
)  # fmt: skip
# Keys that mean something only when another key has a value.
RELEVANT: dict[str, Callable[[Draft], bool]] = {
    "backbone.text": lambda draft: (
        bool(draft.text("backbone.text.name")) or draft.text("data.modality") == "image_text"
    ),
    "tuning.lora": lambda draft: draft.text("tuning.method") == "lora",
    "head.embedding_size": lambda draft: draft.text("head.layers") == "2",
    "head.activation": lambda draft: draft.text("head.layers") == "2",
    "train.head_learning_rate": lambda draft: draft.text("tuning.method") != "partial",
}


def foreign(key: str, draft: Draft) -> bool:
    """Check whether a setting of the backbone is for samples of another modality than that of the chosen one."""
    try:
        info = MODALITIES[find(draft.text("backbone.name")).modality]
    except WeightsError:
        return False
    return key.startswith("backbone.") and key in info.foreign


def step_of(key: str) -> str:
    """Return the step that shows a field."""
    if key == "task":
        return "Data"
    section = key.partition(".")[0]
    return next((step for step, sections in SECTIONS.items() if section in sections), "Training")


def fields_of(draft: Draft, step: str) -> list[SpecField]:
    """List the fields of a step, the common ones first and in the order of COMMON."""
    fields = [field for field in draft.fields.values() if step_of(field.key) == step]
    return sorted(fields, key=lambda field: COMMON.index(field.key) if field.key in COMMON else len(COMMON))


class Fold(Line, can_focus=True):
    """Shows or hides the other fields."""

    DEFAULT_CSS = "Fold { height: 1; color: $text-muted; } Fold:focus { text-style: reverse; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "turn", "All settings", id="fold.toggle", tooltip="Show or hide the other settings"),
    ]

    class Toggled(Message):
        pass

    def action_turn(self) -> None:
        self.post_message(self.Toggled())

    def on_click(self) -> None:
        self.action_turn()


class Form(Vertical):
    """Shows the fields of a step. The others are made when the fold first opens, or one of them is set."""

    DEFAULT_CSS = "Form { height: auto; }"

    def __init__(self, draft: Draft, step: str) -> None:
        super().__init__(classes="form")
        self.draft, self.step = draft, step
        fields = fields_of(draft, step)
        self._common = [field for field in fields if field.key in COMMON]
        self._rare = [field for field in fields if field.key not in COMMON]
        self._open = False

    def compose(self) -> ComposeResult:
        yield from (self._row(field) for field in self._common)
        if self._rare:
            yield Fold()

    def _row(self, field: SpecField) -> FieldRow:
        return (PathRow if field.kind == "paths" else FieldRow)(field, self.draft)

    @property
    def rows(self) -> dict[str, FieldRow]:
        return {row.field.key: row for row in self.query(FieldRow)}

    def show(self, draft: Draft, facts: Facts) -> None:
        """Update every row from the draft and the facts about it."""
        self.draft = draft
        set_rarely = {field.key for field in self._rare if field.key in draft.given or facts.problem_of(field.key)}
        rows = self.rows
        missing = [
            field
            for field in self._rare
            if (self._open or field.key in set_rarely) and field.key not in rows and _relevant(field.key, draft)
        ]
        if missing:
            made = {field.key: self._row(field) for field in missing}
            self.mount_all(made.values())
            rows |= made
        for key, row in rows.items():
            common = key in COMMON
            row.display = _relevant(key, draft) and (common or self._open or key in set_rarely)
            standing = _standing(facts, key)
            row.from_spec(draft, standing)
            row.show_problem(facts.problem_of(key) if draft.given else None)
        for fold in self.query(Fold):
            count = sum(_relevant(field.key, draft) for field in self._rare)
            fold.say(Content.assemble("▾ " if self._open else "▸ ", f"all settings ({count} more)"))

    def field_row(self, key: str) -> FieldRow | None:
        """Return the row of a key, if it is shown."""
        row = self.rows.get(key)
        return row if row is not None and row.display else None

    def unfold(self) -> None:
        self._open = True

    def on_fold_toggled(self) -> None:
        self._open = not self._open


def _relevant(key: str, draft: Draft) -> bool:
    needed = (holds(draft) for start, holds in RELEVANT.items() if key == start or key.startswith(f"{start}."))
    return all(needed) and not foreign(key, draft)


def _standing(facts: Facts, key: str) -> str:
    """Describe the value of an empty entry: `auto, here 0.001`."""
    if key in facts.hints:
        return f"auto, here {facts.hints[key]}"
    return facts.standing.get(key, "")
