"""A compositor that sends only the changed cells to the terminal."""

from __future__ import annotations

from rich.color import ColorSystem
from rich.console import Console
from rich.control import Control
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor
from textual.strip import Strip

RESET = "\x1b[0m"


class SpansUpdate(ChopsUpdate):
    """Textual's partial update, cut to each span. Textual begins a span at the left edge of its widget."""

    def render_segments(self, console: Console) -> str:
        system = console._color_system or ColorSystem.TRUECOLOR
        written: list[str] = []
        for y, start, end in self.spans:
            for chop_end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                left, right = max(x, start), min(chop_end, end)
                if strip is not None and left < right:
                    part = strip.crop(left - x, right - x)
                    linked = any(style is not None and style.link for _, style, _ in part)
                    drawn = part.render(console) if linked else in_few_bytes(part, system)
                    written += [Control.move_to(left, y).segment.text, drawn]
        return "".join(written)


class FrugalCompositor(Compositor):
    """Textual's compositor with such updates."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return SpansUpdate(update.chops, update.spans, update.chop_ends) if update is not None else None


def in_few_bytes(strip: Strip, system: ColorSystem) -> str:
    """Write text with its styles, each as its difference from the one before: usually only the foreground."""
    written: list[str] = []
    before: Style | None = None
    for text, style, _ in strip:
        style = style or Style.null()
        if before is None or not _alike(style, before):
            codes = style._make_ansi_codes(system)
            written.append(f"\x1b[0;{codes}m" if codes else RESET)
            before = style
        elif style.color != before.color and not (text.isspace() and not style.reverse and not style.underline):
            codes = ";".join(style.color.downgrade(system).get_ansi_codes()) if style.color else "39"
            written.append(f"\x1b[{codes}m")
            before = style
        written.append(text)
    return "".join([*written, RESET])


def _alike(one: Style, other: Style) -> bool:
    """Check whether two styles differ at most by their foreground colour."""
    inked = one._attributes & one._set_attributes, other._attributes & other._set_attributes
    return one.bgcolor == other.bgcolor and inked[0] == inked[1]
