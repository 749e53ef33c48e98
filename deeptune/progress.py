"""Types of the functions that long work calls to show how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int], None]  # done, of all
StepProgress = Callable[[str, int, int], None]  # the step, done of it, of all of it
