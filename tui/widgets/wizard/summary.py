"""The summary of a draft: its facts, parameters and training, as text with bars."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from deeptune.formatting import count_text, cut_apart, safe, size_text
from deeptune.show.run_text import backbone_text
from deeptune.spec.estimate import known_recipe
from tui.widgets.wizard.facts import Facts

SHORTEST_NAME = 12  # characters of a backbone that are always shown


def cut(text: str, width: int) -> str:
    """Cut `text` to at most `width` characters, without control characters."""
    text = safe(text).replace("\n", " ")
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def in_column(names: Sequence[str], most: int) -> list[str]:
    """Write names one below the other, each as wide as the widest, at most `most` cells. Longer ones are cut apart."""
    found = cut_apart([safe(name).replace("\n", " ") for name in names], most)
    width = max(map(cell_len, found), default=0)
    return [set_cell_size(name, width) for name in found]


def bar(share: float, width: int, track: str = " ") -> str:
    """Draw a bar of a share of `width` cells, with at least one cell if the share is not 0."""
    full = min(width, max(round(share * width), 1 if share > 0 else 0))
    return "━" * full + track * (width - full)


def facts_text(facts: Facts, width: int) -> str:
    """Describe the run on one line, more briefly where there is less room."""
    parts: list[str] = []
    whole: tuple[int, str] | None = None
    if facts.rows is not None:
        parts.append(f"{facts.rows:,} rows")
    if facts.predicted:
        parts.append(facts.predicted)
    name = len(parts)
    if facts.info is not None:
        parts.append(safe(backbone_text(facts.info.name)))
    if facts.counts is not None and facts.counts.trainable is not None:
        parts.append(f"{count_text(facts.counts.trainable)} trainable")
        if facts.counts.total is not None:
            whole = len(parts) - 1, f" of {count_text(facts.counts.total)}"
    if facts.steps is not None:
        parts.append(f"≤ {facts.steps:,} steps")
    text = " · ".join(parts)
    if facts.info is not None and (excess := len(text) - width) > 0:  # the numbers matter more than a long name
        parts[name] = cut(parts[name], max(SHORTEST_NAME, len(parts[name]) - excess))
        text = " · ".join(parts)
    if whole is not None and len(text) + len(whole[1]) <= width:
        parts[whole[0]] += whole[1]
        text = " · ".join(parts)
    return text


def counts_content(facts: Facts, width: int) -> Content:
    """Show trainable and all parameters, with a bar."""
    if facts.outputs is None:
        return Content.styled("Parameters are counted once the labels are read.", "dim")
    if facts.counts is None or facts.counts.trainable is None or facts.counts.total is None:
        total = facts.counts.total if facts.counts is not None else None
        of = f" of the {total:,} parameters" if total is not None else " parameters"
        return Content.styled(f"How many{of} are trainable is counted when the run starts.", "dim")
    share = facts.counts.trainable / facts.counts.total
    return Content.assemble(
        ("trainable", "dim"),
        (f"{facts.counts.trainable:>13,}", "bold"),
        (f"  {share:.2%}\n", "dim"),
        ("in all   ", "dim"),
        f"{facts.counts.total:>13,}\n",
        (bar(share, max(10, min(48, width - 2)), "·"), "$primary"),
    )


def training_content(facts: Facts) -> Content:
    """Show the steps, and the memory beside the free memory."""
    parts: list[tuple[str, str]] = []
    if facts.resolved is not None and facts.steps is not None:
        assert facts.info is not None
        train, recipe = facts.resolved.train, known_recipe(facts.resolved, facts.info)
        epochs, size = train.epochs, train.batch_size
        if recipe is not None:  # that of a model of no catalog is not in the spec yet
            epochs, size = (
                (recipe.epochs if epochs == "auto" else epochs),
                recipe.batch_size if size == "auto" else size,
            )
        sizes = f"batches of {size * train.accumulation}, " if size != "auto" else ""
        parts += [("steps    ", "dim"), (f"≤ {facts.steps:,}", "bold")]
        parts += [(f"  {epochs} epochs, {sizes}fewer if it stops early\n", "dim")]
    elif facts.exact:
        parts += [("steps    ", "dim"), ("none", "bold"), ("  the head is an exact minimum; ", "dim")]
        parts += [("5 folds choose its penalty\n", "dim")]
    else:
        parts += [("Steps are counted once the rows are known.\n", "dim")]
    if facts.memory is not None:
        parts += [
            ("memory   ", "dim"),
            (f"≈ {size_text(facts.memory.total)}", "bold"),
            (f"  {size_text(facts.memory.exact)} weights and optimizer, activations guessed\n", "dim"),
        ]
    if facts.device is not None:
        short = facts.memory is not None and facts.memory.total > facts.device.free
        parts += [
            ("device   ", "dim"),
            (facts.device.name, "bold"),
            (
                f"  {safe(facts.device.words)}, {size_text(facts.device.free)} free",
                "$error" if short else "dim",
            ),
            ("\n! this may not fit: a smaller batch_size needs less" if short else "", "$error"),
        ]
    elif facts.spec is not None:
        parts += [("device   ", "dim"), (f"{safe(facts.spec.train.device)} is not on this machine", "$warning")]
    return Content.assemble(*parts)
