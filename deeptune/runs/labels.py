"""The labels of a run, and with them its task."""

from __future__ import annotations

from pathlib import Path

from deeptune.errors import CheckpointError
from deeptune.runs.files import read_json
from deeptune.tasks import Task, task_from_json


def read_task(path: Path) -> Task:
    """Read the task that labels.json describes. Raises CheckpointError if the file is missing or damaged."""
    try:
        return task_from_json(read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not describe labels: {error!r}") from error
