"""Advises on a method, from the rows, the head's score and measurements on real data.

`docs/results.md` has the measurements. On about a thousand images whose classes the backbone knows, fine-tuning was no
better than its head; with thousands of images, or where the head explained little, it was well ahead. On a thousand
texts and more it was ahead by far.
"""

from __future__ import annotations

from deeptune.probing.ranking import Advice, RankedBackbone
from deeptune.probing.scores import skill

MIN_TEXTS = 800  # texts from which on fine-tuning was ahead of the head
MANY_IMAGES = 4000  # images from which on it was ahead, whatever the head reached
MIN_IMAGES = 1200  # images from which on it was ahead where the head reached little
LITTLE = 0.6  # share of the way from a constant prediction to a perfect one below which a head reaches little
LEVEL = 0.02  # difference of the metric up to which two scores are called level


def advise(
    backbones: list[RankedBackbone], *, metric: str, baseline: float | None, rows: int, modality: str
) -> Advice | None:
    """Return the best backbone, and the method that is likely to pay; None where nothing was scored.

    `backbones` are sorted. `rows` are those of the training split.
    """
    best = next((one for one in backbones if one.linear is not None and one.linear.score is not None), None)
    if best is None or best.linear is None:
        return None
    method, why = _method(best, skill(metric, best.linear.score, baseline), rows, modality)
    return Advice(best.name, method, [*_about_scores(best, backbones, baseline), why])


def _about_scores(best: RankedBackbone, backbones: list[RankedBackbone], baseline: float | None) -> list[str]:
    found = []
    assert best.linear is not None
    interval = best.linear.interval
    if interval is not None:
        near = [
            one.name
            for one in backbones
            if one is not best and one.pretrained and one.linear is not None and (one.linear.score or 0) >= interval[0]
        ]
        if near:
            found.append(f"{', '.join(near[:3])} reached a score inside of {best.name}'s interval: they may be as good")
        if baseline is not None and interval[0] <= baseline:
            found.append("the best score is not clearly above a constant prediction: look at the labels and the rows")
    trees = best.boosting.score if best.boosting is not None else None
    if trees is not None and best.linear.score is not None and trees > best.linear.score + LEVEL:
        found.append("boosted trees on the same features score higher than the linear head: try head.layers = 2")
    return found


def _method(best: RankedBackbone, share: float | None, rows: int, modality: str) -> tuple[str, str]:
    """Return the method, and the sentence that says why."""
    known = f"{rows:,} training rows"
    if not best.pretrained:
        return (
            "full",
            f"full: no backbone has pretrained weights, so its features say little before it learns ({known})",
        )
    if modality == "text":
        if rows >= MIN_TEXTS:
            return "full", f"full: from about {MIN_TEXTS:,} texts on, fine-tuning was well ahead of a head ({known})"
        return "partial", f"partial: below about {MIN_TEXTS:,} texts, a head was as good as fine-tuning ({known})"
    little = share is not None and share < LITTLE
    if rows >= MANY_IMAGES:
        return "lora", f"lora: with thousands of images, fine-tuning was well ahead of a head ({known})"
    if little and rows >= MIN_IMAGES:
        return "lora", (
            f"lora: the head gets only {share:.0%} of the way from a constant prediction to a perfect one, and on such "
            f"data fine-tuning was far ahead ({known})"
        )
    if share is None or not little:
        return (
            "partial",
            f"partial: on up to some thousand images that the backbone knows, no method was better ({known})",
        )
    return "partial", (
        f"partial: {known} are few for fine-tuning, although the head gets only {share:.0%} of the way from a constant "
        "prediction to a perfect one; it is quick to try lora as well"
    )
