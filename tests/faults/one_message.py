"""What tests of bad input share: the exit codes, and that there is one clear message and no run that seems done."""

from __future__ import annotations

import json
import re
from pathlib import Path

SPEC, DATA, WEIGHTS, TRAINING, STORAGE = 2, 3, 4, 5, 6


def check(answer, code: int, *parts: str, root: Path = Path("out")) -> None:
    """The exit code, every part in one message on stderr, and no run passed off as done."""
    said = answer.stderr
    assert answer.code == code, said
    assert "Traceback" not in answer.stdout + said
    titles = re.findall(
        r"^(?:spec error|data error|weights error|training failed|storage error|usage error): ", said, re.M
    )
    assert len(titles) == 1, said
    for part in parts:
        assert part in said, f"{part!r} is not in:\n{said}"
    for file in root.glob("*/result.json"):
        assert json.loads(file.read_text())["state"] == "failed"
    for file in root.glob("*/status.json"):
        assert json.loads(file.read_text())["state"] == "failed"
