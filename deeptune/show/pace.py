"""Estimates how long a phase that counts its rows will take, by the recent pace."""

from __future__ import annotations

from collections import deque

MIN_SPAN, MAX_SPAN = 2.0, 60.0  # seconds of the past that an estimate is made from


class Pace:
    """Collects (time, rows done) of one phase at a time."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()
        self._of: tuple[str, int] | None = None

    def see(self, phase: str, moment: float, done: int, total: int) -> None:
        """Take in a count at a time in seconds since 1970. Another phase or a lower count begins anew."""
        counts = self._counts
        if (phase, total) != self._of or (counts and done < counts[-1][1]):
            self._of = phase, total
            counts.clear()
        if not counts or done > counts[-1][1]:
            counts.append((moment, done))
        while len(counts) > 2 and moment - counts[0][0] > MAX_SPAN:
            counts.popleft()

    def to_go(self, now: float) -> float | None:
        """Return seconds until the count is full; None while too little of it was seen."""
        if self._of is None or len(self._counts) < 2:
            return None
        (began, first), (last, done) = self._counts[0], self._counts[-1]
        if last - began < MIN_SPAN:
            return None
        return max(0.0, (self._of[1] - done) * (last - began) / (done - first) - max(0.0, now - last))
