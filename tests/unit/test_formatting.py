"""Names that are cut, and numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from deeptune.formatting import cut_apart, mean_text
from deeptune.report import tables

CELL = "adenocarcinoma of the left upper lobe, grade {}, with invasion of the pleura"


def test_names_that_differ_in_their_middle_stay_different() -> None:
    names = [CELL.format("two"), CELL.format("three"), "benign"]
    cut = cut_apart(names, 18)
    assert cut[2] == "benign"
    assert len(set(cut)) == 3
    assert all(cell_len(name) <= 18 for name in cut)
    assert cut[0].startswith("adeno")
    assert "two" in cut[0]
    assert "three" in cut[1]
    assert cut_apart(["adenocarcinoma of the left lobe"], 16) == ["adenocar…ft lobe"]
    assert cut_apart(["quickstart-20261129-122901-7d0de4"], 20, end=7) == ["quickstart-2…-7d0de4"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab 漢", max_size=40).map(str.strip), unique=True, max_size=8), st.integers(12, 30))
def test_different_names_are_never_cut_to_the_same_text(names: list[str], width: int) -> None:
    cut = cut_apart(names, width)
    assert len(set(cut)) == len(names)
    assert all(cell_len(name) <= width for name in cut)


def test_classes_with_long_names_stay_different_in_tables() -> None:
    long = "x" * 4000
    rows = [{"class": number, "name": f"{long}{number}{long}"} for number in range(3)]
    titles = tables.class_titles(rows)
    assert len(set(titles)) == 3
    assert all(len(title) <= tables.MAX_NAME for title in titles)
    same = [{"class": f"{long}{number}{long}", "name": None} for number in range(3)]
    assert len(set(tables.class_titles(same))) == 3


def test_no_zero_has_a_sign() -> None:
    assert tables.value_text("r2", -1e-9) == tables.value_text("mcc", -0.0) == "0.000"


@pytest.mark.parametrize(
    ("best", "text"),
    [
        ({"epoch": 3, "mean": [3, 4, 6]}, "the mean of epochs 3, 4 and 6"),
        ({"epoch": 3}, ""),
        *(({"epoch": 3, "mean": damaged}, "") for damaged in (None, [], "3, 4", 7, [3, "4"], [3, None], {"3": 4})),
    ],
)
def test_a_mean_is_named_by_its_epochs_and_anything_else_is_none(best, text):
    assert mean_text(best) == text
