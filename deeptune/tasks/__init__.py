"""Tasks: labels as targets, the meaning of a model's outputs, and their metrics.

`task_class` gives the class of a task by its name; a fitted `Task` is stored as labels.json.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from deeptune.spec.tasks import TASKS
from deeptune.tasks.base import Fitted, Relabel, Task

__all__ = ["Fitted", "Relabel", "Task", "task_class", "task_from_json"]


def task_class(name: str) -> type[Task]:
    """Return the class of a task by its name in the spec. Raises KeyError for an unknown name."""
    found: type[Task] = resolve_name(TASKS[name].implementation)
    return found


def task_from_json(data: dict[str, Any]) -> Task:
    """Rebuild a task from the output of its `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
    return task_class(data["task"]).from_json(data)
