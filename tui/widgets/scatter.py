"""A scatter plot: arrow keys move a cursor from point to point, other keys move the window."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from deeptune.show.scatter import INKS, SHADES, Scene, Window, bring_in_sight, dots, draw, neighbour, whole
from tui.widgets.styled_lines import Lines

if TYPE_CHECKING:
    from deeptune.report.embedding_points import Points

ZOOM, STEP = 1.5, 0.25
FEW = 300  # points that are letters of their classes at first: single dots are hard to see
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, 1), "down": (0, -1)}


class Scatter(Lines, can_focus=True):
    """Draws a scene in its own size, and posts when its cursor or its window has moved."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key, f"move('{key}')", show=False, id=f"scatter.{key}", tooltip=f"The next point: {key}")
            for key in DIRECTIONS
        ),
        *(
            Binding(
                f"shift+{key}", f"pan({x}, {y})", show=False, id=f"scatter.pan_{key}", tooltip=f"Look further {key}"
            )
            for key, (x, y) in DIRECTIONS.items()
        ),
        Binding("n", "row(1)", "Next", id="scatter.next", tooltip="The next row of the file"),
        Binding("p", "row(-1)", "Before", id="scatter.before", tooltip="The row of the file before"),
        Binding("plus,equals_sign", "zoom(1)", "In", key_display="+", id="scatter.zoom_in", tooltip="Look closer"),
        Binding("minus", "zoom(-1)", "Out", key_display="-", id="scatter.zoom_out", tooltip="Look from farther away"),
        Binding("0", "reset", "All", id="scatter.all", tooltip="Every point in sight again"),
        Binding("m", "letters", "Letters", id="scatter.letters", tooltip="Letters of the classes or dots"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line--here",
        *(f"line--class-{number + 1}" for number in range(INKS)),
        *(f"line--value-{number + 1}" for number in range(SHADES)),
    }
    DEFAULT_CSS = (
        "Scatter { height: 1fr; & > .line--here { text-style: bold reverse; color: $foreground; } "
        + "".join(f"& > .line--class-{number + 1} {{ color: $class-{number + 1}; }} " for number in range(INKS))
        + "".join(f"& > .line--value-{number + 1} {{ color: $value-{number + 1}; }} " for number in range(SHADES))
        + "& > .line--faint { color: $foreground 20%; } }"
    )

    class Moved(Message):
        """Posted when the cursor or the window has moved."""

        def __init__(self, scene: Scene) -> None:
            super().__init__()
            self.scene = scene

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.scene: Scene | None = None
        self.letters: bool | None = None  # as chosen, or None for letters where there are few points
        self._all: Window | None = None

    def plot(self, points: Points) -> None:
        """Show these points, with all of them in the window."""
        self._all = whole(points.xy)
        letters = len(points.xy) <= FEW if self.letters is None else self.letters
        self.scene = Scene(points.xy, points.group, self._all, letters=letters, ordered=points.ordered)
        self._draw()

    @property
    def zoom(self) -> float:
        """The magnification, relative to a window with all points."""
        if self.scene is None or self._all is None:
            return 1.0
        return (self._all.right - self._all.left) / (self.scene.window.right - self.scene.window.left)

    def set(self, **changes: Any) -> None:
        """Change parts of the scene."""
        if self.scene is not None:
            self.scene = replace(self.scene, **changes)
            self._draw()
            self.post_message(self.Moved(self.scene))

    def _draw(self) -> None:
        if self.scene is not None and self.size.area:
            self.show(draw(self.scene, *self.size))

    def on_resize(self) -> None:
        self._draw()

    def action_move(self, direction: str) -> None:
        scene = self.scene
        if scene is None or not self.size.area:
            return
        if scene.cursor is None:
            self._go_to(self._nearest(*scene.window.middle))
        elif (found := neighbour(scene, *DIRECTIONS[direction], *self.size)) is not None:
            self._go_to(found)

    def action_row(self, by: int) -> None:
        scene = self.scene
        if scene is None:
            return
        shown = self._shown()
        if scene.cursor is None:
            self._go_to(int(shown[0 if by > 0 else -1]))
            return
        later = shown[shown > scene.cursor] if by > 0 else shown[shown < scene.cursor]
        if len(later):
            self._go_to(int(later[0 if by > 0 else -1]))

    def _go_to(self, index: int) -> None:
        assert self.scene is not None
        self.set(window=bring_in_sight(replace(self.scene, cursor=index)).window, cursor=index)

    def _shown(self) -> Any:
        """Return the indices of the points that are not filtered away, inside the window or not."""
        import numpy as np

        scene = self.scene
        assert scene is not None
        if scene.alone and scene.bright is not None:
            return np.nonzero(scene.group == scene.bright)[0]
        return np.arange(len(scene.group))

    def _nearest(self, x: float, y: float) -> int:
        scene, shown = self.scene, self._shown()
        assert scene is not None
        window = scene.window
        far = (scene.xy[shown] - [x, y]) / [window.right - window.left, window.top - window.bottom]
        return int(shown[(far**2).sum(axis=1).argmin()])

    def action_zoom(self, direction: int) -> None:
        """Zoom towards the cursor, or the middle."""
        if (scene := self.scene) is not None:
            at = scene.window.middle if scene.cursor is None else scene.xy[scene.cursor].tolist()
            self.set(window=scene.window.zoomed(ZOOM**direction, *at))

    def action_pan(self, across: int, up: int) -> None:
        if self.scene is not None:
            self.set(window=self.scene.window.moved(STEP * across, STEP * up))

    def action_reset(self) -> None:
        self.set(window=self._all)

    def action_letters(self) -> None:
        if self.scene is not None:
            self.letters = not self.scene.letters
            self.set(letters=self.letters)

    def on_click(self, event: events.Click) -> None:
        scene = self.scene
        if scene is None or not self.size.area:
            return
        shown = self._shown()
        far = dots(scene.xy[shown], scene.window, *self.size) - [2 * event.x + 1, 4 * event.y + 2]
        self._go_to(int(shown[(far**2).sum(axis=1).argmin()]))
