"""The errors a person can act on. Each becomes one message and one exit code at the command edge.

Exit code 1 is never raised on purpose: it means a defect of DeepTune itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DeepTuneError(Exception):
    """A problem that the person who started the command can fix.

    `message` says what is wrong and where; `hint` says what to do about it.
    """

    exit_code = 1
    title = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class SpecError(DeepTuneError):
    """The run spec, or a command's arguments, are not valid."""

    exit_code = 2
    title = "spec error"


class DataError(DeepTuneError):
    """The data cannot be read or does not fit the task."""

    exit_code = 3
    title = "data error"


class WeightsError(DeepTuneError):
    """A backbone or its weights cannot be found, loaded or adapted."""

    exit_code = 4
    title = "weights error"


class TrainingError(DeepTuneError):
    """Training started and could not go on."""

    exit_code = 5
    title = "training failed"


class RunCrashed(DeepTuneError):
    """The process of a run ended without a word."""

    exit_code = 5
    title = "run crashed"


class CheckpointError(DeepTuneError):
    """A checkpoint or another output could not be written, read or trusted."""

    exit_code = 6
    title = "storage error"


class RunStopped(DeepTuneError):
    """A person, or the system, asked the run to stop; it can be resumed."""

    exit_code = 130
    title = "stopped"


def error_from(title: str, message: str, hint: str | None) -> DeepTuneError:
    """Return the error that a run recorded, to be raised again where the run is watched."""
    kinds = {kind.title: kind for kind in DeepTuneError.__subclasses__()}
    return kinds.get(title, DeepTuneError)(message, hint=hint)


def did_you_mean(word: str, options: Iterable[str], *, limit: int = 3) -> str:
    """Return `Did you mean 'a' or 'b'?` for the options nearest to `word`, or an empty string."""
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), list(by_lower), n=limit, cutoff=0.6)
    if not near:
        return ""
    return "Did you mean " + " or ".join(f"'{by_lower[name]}'" for name in near) + "?"


def shortened(text: object, *, most: int = 160) -> str:
    """Shorten a text to about `most` characters: of a longer one its beginning, its length and its end."""
    whole = str(text)
    if len(whole) <= most:
        return whole
    return f"{whole[: most // 2]} … ({len(whole):,} characters) … {whole[-most // 4 :]}"


def listed(values: Iterable[object], *, most: int = 8) -> str:
    """Return `a, b, c and 5 more`: a list that stays readable however long it and its values are."""
    items = [shortened(value).replace("\n", "\\n") for value in values]
    if len(items) <= most:
        return ", ".join(items)
    return ", ".join(items[:most]) + f" and {len(items) - most:,} more"


def first_line(error: BaseException, max_length: int | None = None) -> str:
    """Return the first line of an error's message, or the name of its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:max_length]
