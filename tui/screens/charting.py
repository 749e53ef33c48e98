"""A screen whose keys set how the curves of a run are drawn."""

from __future__ import annotations

from dataclasses import replace

from textual import on, work

from deeptune.show import curves
from deeptune.show.view import View
from tui.screens.base import DeepTuneScreen
from tui.widgets.chart import Chart


class ChartingScreen(DeepTuneScreen):
    """Holds the view of a run and the setting of its curves. A subclass draws them and binds the actions to keys."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
        self.setting = curves.Setting()
        self._at: float | None = None  # the x of the cursor in the charts

    def _draw(self) -> None:
        raise NotImplementedError

    def _set(self, **changes: object) -> None:
        self.setting = replace(self.setting, **changes)  # type: ignore[arg-type]
        self._draw()

    def action_metric(self) -> None:
        self._set(metric=self.setting.metric + 1)

    @work
    async def action_find(self) -> None:
        from tui.screens.choose import ChooseScreen

        names = ["loss", *curves.metrics(self.view)]
        if chosen := await self.app.push_screen_wait(ChooseScreen("Metric of val", names)):
            self._set(metric=names.index(chosen))

    def action_unit(self) -> None:
        self._at = None
        self._set(window=None, unit=curves.after(self.setting.unit, curves.UNITS))

    def action_log_y(self) -> None:
        self._set(log=not self.setting.log)

    def action_smooth(self) -> None:
        self._set(smoothing=curves.after(self.setting.smoothing, curves.SMOOTHING))

    @on(Chart.Zoomed)
    def _zoom(self, message: Chart.Zoomed) -> None:
        self._set(window=message.window)

    @on(Chart.Moved)
    def _move_cursor(self, message: Chart.Moved) -> None:
        self._at = message.x
        self._draw()
