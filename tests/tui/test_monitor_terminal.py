"""The monitor on a real pseudo-terminal, with keys that are typed ahead: all in one write."""

from __future__ import annotations

import time

import pyte
import pytest
from ptys import Terminal

from deeptune.runs import RunDirectory, run_state


@pytest.mark.parametrize("size", [(80, 24), (160, 45)], ids="{0[0]}x{0[1]}".format)
def test_words_that_are_typed_ahead_go_into_the_filter(failed: RunDirectory, environment, size):
    """`r` would resume the run, `e` open embeddings and `a` change the curves."""
    variables = {**environment, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    with Terminal([str(failed.path)], failed.path.parent, variables, module="tui", size=size) as terminal:
        deadline = time.monotonic() + 60
        keys, shown = "4/reading and\r", ""
        while "of 11 lines have 'reading and'" not in shown:
            assert time.monotonic() < deadline, shown
            terminal.read(0.3)
            picture = pyte.Screen(*size)
            pyte.Stream(picture).feed(terminal.drawn)
            shown = "\n".join(picture.display)
            if keys and "data error" in shown:
                terminal.type(keys)
                keys = ""
    assert run_state(failed).word == "failed"
