"""Writing to the terminal without ever waiting for it."""

from __future__ import annotations

from typing import Any

from textual.drivers.linux_driver import LinuxDriver

LOOK = 0.25  # seconds


class PatientDriver(LinuxDriver):
    """Textual's driver, but a terminal that takes nothing more does not hold up the loop: what would have to wait is
    dropped, and the screen is drawn anew once the terminal reads again."""

    behind = False

    def write(self, data: str) -> None:
        writer = self._writer_thread
        if writer is None:
            return
        if self.behind or writer._queue.full():
            if not self.behind:
                self.behind = True
                self._app.call_later(self._wait)
            return
        writer.write(data)

    def _wait(self) -> None:
        self._app.set_timer(LOOK, self._catch_up)

    def _catch_up(self) -> None:
        if self._writer_thread is None:
            return
        if not self._writer_thread._queue.empty():
            self._wait()
            return
        self.behind = False
        screen: Any = self._app.screen
        screen.refresh(layout=True)
        for widget in screen.walk_children():
            widget.refresh()
