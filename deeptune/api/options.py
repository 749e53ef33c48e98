"""The keywords with which a Python program applies a model, and the engine's options that they stand for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from deeptune.errors import SpecError, did_you_mean, listed
from deeptune.progress import Progress

if TYPE_CHECKING:
    from deeptune.engine.predict import ApplyOptions

log = logging.getLogger("deeptune")


class Options(TypedDict, total=False):
    """Options that apply a model to data.

    `batch_size`: rows that pass together, by default as in the run. `on_bad_sample`: "error" (the default) raises
    DataError with a list of the samples that can't be used; "skip" leaves their rows empty. `root`: the folder at
    which names of files start, by default the current folder, or that of their Parquet file. `progress(done, total)`
    is called now and then, with numbers of rows. `notify(text)` gets sentences, such as one on memory that runs out; by
    default they are logged (`logging.getLogger("deeptune")`). Of predictions alone: `abstain_below` makes those null
    whose confidence is lower, and `coverage` is that of sets and intervals, by default the run's own.
    """

    batch_size: int | None
    on_bad_sample: str
    root: str | None
    progress: Progress
    notify: Callable[[str], None]
    abstain_below: float | None
    coverage: float | None


def apply_options(options: Mapping[str, Any]) -> ApplyOptions:
    """Turn keywords into the options of the engine. Raises SpecError for one that is not known."""
    from deeptune.engine.predict import ApplyOptions

    known = tuple(Options.__annotations__)
    for name in options:
        if name not in known:
            raise SpecError(
                f"there is no option {name!r}. {did_you_mean(name, known)}".rstrip(), hint=f"Options: {listed(known)}."
            )
    given = {name: value for name, value in options.items() if name != "root"}
    return ApplyOptions(**{"on_bad_sample": "error", "notify": log.info, **given})
