"""Sending no more to the terminal than what changed."""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class SpansUpdate(ChopsUpdate):
    """Textual's partial update, which begins each span at the left edge of its widget, cut to the span itself."""

    def render_segments(self, console: Console) -> str:
        written: list[str] = []
        for y, start, end in self.spans:
            for chop_end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                left, right = max(x, start), min(chop_end, end)
                if strip is not None and left < right:
                    written += [Control.move_to(left, y).segment.text, strip.crop(left - x, right - x).render(console)]
        return "".join(written)


class FrugalCompositor(Compositor):
    """Textual's compositor with such updates."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return SpansUpdate(update.chops, update.spans, update.chop_ends) if update is not None else None
