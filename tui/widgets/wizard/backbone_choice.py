"""Backbones that the wizard proposes, lists and fetches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeptune.catalog import CATALOG, BackboneInfo
from deeptune.fetching import Fetch
from deeptune.spec.modalities import MODALITIES
from tui.draft import Draft
from tui.widgets.wizard.facts import Facts

TEXT = "backbone.text.name"
KEYS = ("backbone.name", TEXT)
Fetches = Mapping[str, Fetch | None]


def guess(draft: Draft, overview: dict[str, Any], columns: list[str], fetches: Fetches) -> None:
    """Guess the first backbones of the catalog that fit the input columns and have their weights on this machine."""
    kinds = {one["name"]: one["modality"] for one in overview["columns"]}
    found = {kinds[column] for column in columns}
    draft.guessed.pop(TEXT, None)
    if found == set(MODALITIES["image_text"].parts):
        draft.guessed[TEXT] = _usual("text", fetches)
        draft.guessed["backbone.name"] = _usual("image", fetches)
    elif (modality := kinds[columns[0]]) is not None:
        draft.guessed["backbone.name"] = _usual(modality, fetches)


def _usual(modality: str, fetches: Fetches) -> str:
    here = [row.name for row in CATALOG.values() if row.modality == modality and not fetches[row.name]]
    return here[0] if here else MODALITIES[modality].usual_backbone


def listed(key: str, modality: str | None, info: BackboneInfo | None) -> tuple[str | None, str]:
    """Return (modality, name): whose backbones are listed for a field, and which of them the draft names."""
    members = info.members if info else ()
    if modality != "image_text":
        return modality, members[0].name if members else ""
    kind = "text" if key == TEXT else "image"
    return kind, next((member.name for member in members if member.modality == kind), "")


def wanted_fetches(facts: Facts, fetches: Fetches) -> list[Fetch]:
    """List what the run has to fetch, as far as it is known; first what it can't."""
    if facts.info is None or facts.spec is None:
        return []
    members = zip(facts.info.members, facts.spec.backbone.members.values(), strict=False)
    wanted = [row.name for row, part in members if part.weights == "pretrained"]
    found = [fetch for name in wanted if (fetch := fetches.get(name)) is not None]
    return sorted(found, key=lambda fetch: not fetch.obstacle)
