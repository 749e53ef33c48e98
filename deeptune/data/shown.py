"""A sample as viewers show it. Imports nothing, so that a viewer may read it at its start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShownSample:
    """An encoded image, a text, or both."""

    image: bytes | None = None
    text: str | None = None
