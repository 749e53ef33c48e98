"""The wizard draws the classes of a file and says how unequal they are."""

from __future__ import annotations

import pytest

from deeptune.show.picture import PictureGlyphs
from tui.widgets.wizard.data import balance_content


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((100, 100), "2 classes"),
        ((101, 100), "2 classes"),  # and not "1.0 times"
        ((150, 100), "2 classes; the largest is 1.5 times the smallest"),
    ],
)
def test_unequal_classes_are_told_where_it_shows(counts, said):
    survey = {
        "classes": [("cat", counts[0]), ("dog", counts[1])],
        "rows": {"train": sum(counts)},
        "task": "classification",
    }
    assert balance_content(survey, 80, PictureGlyphs()).plain.splitlines()[-1] == said
