"""What a line of a list says of a run."""

from __future__ import annotations

from typing import Any

import pytest

from deeptune.runs import RunState
from deeptune.show.run_text import progress_text


@pytest.mark.parametrize(
    ("word", "status", "text"),
    [
        ("starting", {"phase": "starting"}, "starting"),
        ("stopped", {"phase": "starting"}, ""),  # it is not starting any more
        ("failed", {"phase": "data", "progress": {"done": 2, "total": 4}}, "data  50%"),
        ("running", {"phase": "train", "epoch": 3, "epochs": 10, "step": 41, "steps": 100}, "epoch 3/10  41%"),
        ("stopped", {"phase": "verify", "epoch": 3, "epochs": 10, "step": 41, "steps": 100}, "epoch 3/10  41%"),
    ],
)
def test_progress_is_where_a_run_is_or_ended(word: str, status: dict[str, Any], text: str) -> None:
    assert progress_text(RunState(word, status=status)) == text
