"""The keys of a spec as lines of text: every value comes back as it was."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from deeptune.spec.fields import SpecField, spec_fields
from deeptune.spec.run_spec import HeadSpec, RunSpec

FIELDS = {field.key: field for field in spec_fields()}
TEXT = st.text(max_size=12)


def values_of(field: SpecField) -> st.SearchStrategy:
    """Values of a field's kind, whatever its bounds."""
    kinds: dict[str, st.SearchStrategy] = {
        "choice": st.nothing(),
        "integer": st.integers(-5, 10**12),
        "number": st.floats(allow_nan=False, allow_infinity=False),
        "text": TEXT,
        "columns": TEXT | st.lists(TEXT, max_size=3),
        "paths": TEXT | st.lists(TEXT, max_size=3),
        "several": st.lists(st.sampled_from(field.words), max_size=3) if field.kind == "several" else st.nothing(),
        "list": st.lists(TEXT, max_size=3),
        "numbers": st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3),
        "table": st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    }
    return kinds[field.kind] | (
        st.sampled_from(field.words) if field.words and field.kind != "several" else st.nothing()
    )


@pytest.mark.parametrize("key", FIELDS)
@given(data=st.data())
def test_a_value_is_the_same_after_it_was_shown(key: str, data: st.DataObject) -> None:
    field = FIELDS[key]
    value = data.draw(values_of(field))
    text = field.show(value)
    assert text.isprintable() or not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text)
    again = field.parse(text)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("key", FIELDS)
def test_an_empty_line_is_the_default(key: str) -> None:
    assert FIELDS[key].parse("") == FIELDS[key].default
    assert FIELDS[key].show(None) == ""


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("train.epochs", "auto", "auto"),
        ("train.epochs", " 12 ", 12),
        ("train.epochs", "twelve", "twelve"),  # for `validate` to refuse
        ("train.learning_rate", "1e-4", 1e-4),
        ("data.path", "[ab]*.parquet", "[ab]*.parquet"),
        ("data.path", "my data.parquet", "my data.parquet"),
        ("data.path", '["a.parquet", "b.parquet"]', ["a.parquet", "b.parquet"]),
        ("data.input", "text", "text"),
        ("data.input", "premise, hypothesis", ["premise", "hypothesis"]),
        ("data.input", '"one, two"', "one, two"),
        ("tuning.lora.targets", "query, value", ["query", "value"]),
        ("train.class_weights", "a = 1, b = 2.5", {"a": 1, "b": 2.5}),
        ("train.class_weights", "{a = 1}", {"a": 1}),
        ("embed.splits", "[]", []),
        ("embed.splits", "train", ["train"]),
        ("head.standardise", "false", False),
        ("head.layers", "2", 2),
        ("data.label", '""', ""),
    ],
)
def test_what_people_type(key: str, typed: str, value: object) -> None:
    assert FIELDS[key].parse(typed) == value


def test_a_new_field_is_there_with_its_kind_help_and_bounds() -> None:
    class Head(HeadSpec):
        depth: int = Field(3, ge=1, le=9, description="How deep.")
        shape: Literal["round", "square"] | None = Field(None, description="Which shape.")

    class Spec(RunSpec):
        head: Head = Field(default_factory=Head)

    fields = {field.key: field for field in spec_fields(Spec)}
    assert set(fields) - set(FIELDS) == {"head.depth", "head.shape"}
    depth, shape = fields["head.depth"], fields["head.shape"]
    assert (depth.kind, depth.default, depth.help) == ("integer", 3, "How deep.")
    assert depth.accepts == "an integer of at least 1 and of at most 9"
    assert (shape.kind, shape.words, shape.optional) == ("choice", ("round", "square"), True)
