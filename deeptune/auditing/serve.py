"""Answers a viewer: `python -m deeptune.auditing.serve` audits what its standard input names, a JSON object a line.

As with `deeptune.data.inspect`, the viewer is neither held up nor ended by whatever a file does.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from deeptune.auditing.audit import audit_data
from deeptune.auditing.request import AuditRequest
from deeptune.data.inspect import serve
from deeptune.progress import Progress
from deeptune.spec.toml import validate


def answer(question: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
    """Audit the data of `spec`, a spec as plain values, with cheap features. Returns the report as JSON values.

    `progress(done, total)` counts samples.
    """

    def step(what: str, done: int, total: int) -> None:
        if what == "samples" and progress is not None:
            progress(done, total)

    return audit_data(AuditRequest.of_spec(validate(question["spec"])), progress=step)[0].to_json()


if __name__ == "__main__":
    os.nice(5)  # whoever asks draws a screen meanwhile
    with suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin, sys.stdout, answer)
    os._exit(0)
