"""The state of a run as text, for every viewer."""

from __future__ import annotations

from typing import Any

from deeptune.formatting import mean_text
from deeptune.report.tables import sentence_title, value_text
from deeptune.runs import RunState
from deeptune.runs.files import fits

STYLES = {
    "running": "blue", "starting": "blue", "stopping": "yellow", "paused": "yellow", "done": "green",
    "stopped": "yellow", "failed": "red", "crashed": "red", "deleted": "red", "stale": "yellow", "presumed dead": "red",
}  # fmt: skip


def is_number(value: object) -> bool:
    """Check for a number that is not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def best_of(state: RunState) -> dict[str, Any] | None:
    """Return the best epoch of a run with its metric and value, if it has one."""
    shape = {"epoch": int, "metric": str, "value": float}
    for best in (state.result.get("best"), state.status.get("best")):
        if fits(shape, best):
            return best
    return None


def best_text(state: RunState, *, titled: bool = False) -> str:
    """Write the best value as `loss 0.331 (epoch 3)`, with the name that filters take, or titled: `R² 0.61`.

    That of a mean is `loss 0.331 (epochs 3, 4 and 6)`.
    """
    if (best := best_of(state)) is None:
        return ""
    place = mean_text(best).removeprefix("the mean of ") or (f"epoch {best['epoch']}" if best["epoch"] else "the head")
    name = best["metric"].removeprefix("val/")
    words = best["metric"].removesuffix(name) + (sentence_title(name) if titled else name)
    return f"{words} {value_text(name, best['value'])} ({place})"


def progress_text(state: RunState) -> str:
    """Say how far a run is: `epoch 3/10  41%`, or what it does before and after training."""
    status = state.status
    epoch, epochs, step, steps = (status.get(key) for key in ("epoch", "epochs", "step", "steps"))
    if state.word == "done" and isinstance(count := state.result.get("epochs"), int):
        return f"{count} epoch{'s' if count != 1 else ''}"
    place = f"epoch {epoch}/{epochs}" if epoch and epochs else ""
    share = f"{100 * min(step, steps) // steps}%" if step is not None and steps else ""
    if status.get("phase") == "train" or (state.over and place):
        return f"{place}  {share}".strip()
    phase, progress = str(status.get("phase") or ""), status.get("progress")
    if state.over and phase == "starting":  # it did nothing that is worth a word
        return ""
    return f"{phase}  {100 * progress['done'] // progress['total']}%" if progress and progress["total"] > 0 else phase


def backbone_text(name: str) -> str:
    """Return a backbone's name where there is little room: of a folder its own name alone."""
    prefix, colon, place = name.partition(":")
    short = place.rstrip("/").rpartition("/")[2] if place.startswith(("/", "~", ".")) else place
    return f"{prefix}{colon}{short}" if short else name
