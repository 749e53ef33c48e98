"""A scatter in a terminal: braille dots, or a letter of its class for each cell.

It is drawn as plain rows of (text, style name), as charts are. A cell has the colour, or the letter, of the class that
most of its points are of, so that a hundred thousand points are drawn as quickly as a few.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from deeptune.show.chart import BRAILLE, Row, joined

if TYPE_CHECKING:
    import numpy as np

SIGNS = string.ascii_letters + string.digits
INKS = 8  # colours, which classes take in turn
SHADES = 7  # of numbers from low to high, and of those that are not known
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column of dots
MARGIN = 0.03


class Window(NamedTuple):
    """The part of the plane that is in sight."""

    left: float
    right: float
    bottom: float
    top: float

    def zoomed(self, factor: float, x: float, y: float) -> Window:
        """Zoom around the point (x, y), which stays where it is."""
        return Window(
            x + (self.left - x) / factor, x + (self.right - x) / factor,
            y + (self.bottom - y) / factor, y + (self.top - y) / factor,
        )  # fmt: skip

    def moved(self, across: float, up: float) -> Window:
        """Return these limits moved by so many widths and heights."""
        x, y = across * (self.right - self.left), up * (self.top - self.bottom)
        return Window(self.left + x, self.right + x, self.bottom + y, self.top + y)

    def holds(self, x: float, y: float) -> bool:
        return self.left <= x <= self.right and self.bottom <= y <= self.top

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2


@dataclass(frozen=True)
class Scene:
    """The drawing: points `xy` (N, 2) of a `group` (N,) each, as far as they are in the window.

    The points of the group `bright` stand out; with `alone` there are no others. `cursor` is the index of a point. With
    `letters` each class has its letter. Groups that are `ordered` have the colours of a scale.
    """

    xy: np.ndarray
    group: np.ndarray
    window: Window
    bright: int | None = None
    alone: bool = False
    cursor: int | None = None
    letters: bool = False
    ordered: bool = False


def whole(xy: np.ndarray) -> Window:
    """Return the range of all points, with a margin."""
    (left, bottom), (right, top) = xy.min(axis=0).tolist(), xy.max(axis=0).tolist()
    across, up = (MARGIN * (right - left) or 1.0), (MARGIN * (top - bottom) or 1.0)
    return Window(left - across, right + across, bottom - up, top + up)


def sign_of(group: int) -> str:
    """Return the letter of a group."""
    return SIGNS[group % len(SIGNS)]


def style_of(group: int, *, ordered: bool = False) -> str:
    """Return the style name of a group: a class, or a range of numbers if `ordered`."""
    return f"value-{group + 1}" if ordered else f"class-{group % len(SIGNS) % INKS + 1}"


def dots(xy: np.ndarray, window: Window, width: int, height: int) -> np.ndarray:
    """Return the dot of each point, (N, 2) int64 from the top left, with two dots across and four down in each cell.

    Points out of sight are below 0 or beyond the last.
    """
    import numpy as np

    low = np.array([window.left, window.top])
    span = np.array([window.right - window.left, window.bottom - window.top])
    places = (xy - low) / span * [2 * width, 4 * height]
    return np.floor(np.nan_to_num(places).clip(-1e9, 1e9)).astype(np.int64)


def draw(scene: Scene, width: int, height: int) -> list[Row]:
    """Draw `height` rows of `width` cells."""
    import numpy as np

    places = dots(scene.xy, scene.window, width, height)
    inside = ((places >= 0) & (places < [2 * width, 4 * height])).all(axis=1)
    if scene.alone and scene.bright is not None:
        inside &= scene.group == scene.bright
    bits, winner = in_cells(places[inside], scene.group[inside] % len(SIGNS), width, height)
    styles = [style_of(group, ordered=scene.ordered) for group in range(len(SIGNS))]
    ink = [styles[group] if count else "" for group, count in zip(winner.tolist(), bits.tolist(), strict=True)]
    if scene.bright is not None and not scene.alone:
        loud = inside & (scene.group == scene.bright)
        own, _ = in_cells(places[loud], scene.group[loud] % len(SIGNS), width, height)
        bits = np.where(own, own, bits)
        winner = np.where(own, scene.bright % len(SIGNS), winner)
        bright = style_of(scene.bright, ordered=scene.ordered)
        ink = [bright if mine else style and "faint" for mine, style in zip(own.tolist(), ink, strict=True)]
    signs = [
        " " if not count else SIGNS[group] if scene.letters else chr(BRAILLE | count)
        for count, group in zip(bits.tolist(), winner.tolist(), strict=True)
    ]
    if scene.cursor is not None:
        x, y = places[scene.cursor].tolist()
        if 0 <= x < 2 * width and 0 <= y < 4 * height:
            at = y // 4 * width + x // 2
            signs[at], ink[at] = sign_of(int(scene.group[scene.cursor])), "here"
    cells = list(zip(signs, ink, strict=True))
    return [joined(cells[start : start + width]) for start in range(0, len(cells), width)]


def in_cells(places: np.ndarray, signs: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the dots of each cell as bits, and the sign that most of its points have."""
    import numpy as np

    x, y = places[:, 0], places[:, 1]
    cell = y // 4 * width + x // 2
    bits = np.zeros(width * height, np.int64)
    np.bitwise_or.at(bits, cell, np.array(_BITS)[y % 4, x % 2])
    counts = np.bincount(cell * len(SIGNS) + signs, minlength=width * height * len(SIGNS))
    return bits, counts.reshape(-1, len(SIGNS)).argmax(axis=1)


def neighbour(scene: Scene, across: int, up: int, width: int, height: int) -> int | None:
    """Return the nearest point to the cursor's in a direction that is shown in another cell, or None.

    Points within 45 degrees of the direction come first.
    """
    import numpy as np

    assert scene.cursor is not None
    shown = np.ones(len(scene.group), bool)
    if scene.alone and scene.bright is not None:
        shown = scene.group == scene.bright
    places = dots(scene.xy, scene.window, width, height)
    far = places - places[scene.cursor]
    along, aside = (far[:, 0] * across, far[:, 1]) if across else (-far[:, 1] * up, far[:, 0])
    step = 2 if across else 4
    away = shown & (along >= step)
    for wanted in (away & (abs(aside) <= along), away):
        (found,) = np.nonzero(wanted)
        if len(found):
            return int(found[np.argmin(along[found] ** 2 + 2.0 * aside[found] ** 2)])
    return None


def bring_in_sight(scene: Scene) -> Scene:
    """Move the window to the cursor, if that is out of it."""
    if scene.cursor is None:
        return scene
    x, y = scene.xy[scene.cursor].tolist()
    if scene.window.holds(x, y):
        return scene
    (at_x, at_y), (left, right, bottom, top) = scene.window.middle, scene.window
    return replace(scene, window=scene.window.moved((x - at_x) / (right - left), (y - at_y) / (top - bottom)))
