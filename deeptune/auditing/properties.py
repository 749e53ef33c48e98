"""Properties of a sample besides its content: its size, format and brightness, or the length of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.measures import ImageFacts


@dataclass(frozen=True)
class Property:
    """A number for each row (float64 (N,), NaN where there is no sample).

    `names` are what the numbers stand for where these are kinds. A property of how a file was made (`made`) says
    nothing of its content; others, such as brightness, may be part of what a class looks like.
    """

    name: str
    values: np.ndarray
    made: bool
    names: tuple[str, ...] = ()

    def columns(self, rows: np.ndarray) -> np.ndarray:
        """Give columns for a model (float64 (M, width)): the numbers, or one column for each kind."""
        if not self.names:
            return self.values[rows][:, None]
        return (self.values[rows][:, None] == np.arange(len(self.names))).astype(np.float64)


def properties(data: AuditData) -> Iterator[Property]:
    """Measure each property that differs between rows."""
    made = _of_images(data) if data.measures.images else _of_texts(data) if data.measures.texts else ()
    for one in made:
        known = one.values[np.isfinite(one.values)]
        if len(known) and known.min() < known.max():
            yield one


def _of_images(data: AuditData) -> Iterator[Property]:
    images = data.measures.images

    def numbers(measure: Callable[[ImageFacts], float]) -> np.ndarray:
        return np.array([np.nan if image is None else measure(image) for image in images], np.float64)

    def kinds(measure: Callable[[ImageFacts], str]) -> tuple[np.ndarray, tuple[str, ...]]:
        found = [None if image is None else measure(image) for image in images]
        names = tuple(sorted({name for name in found if name is not None}))
        return np.array([np.nan if name is None else names.index(name) for name in found], np.float64), names

    yield Property("file size", np.where(data.usable, data.measures.sizes, np.nan).astype(np.float64), made=False)
    yield Property("width", numbers(lambda image: image.header.size[0]), made=True)
    yield Property("height", numbers(lambda image: image.header.size[1]), made=True)
    yield Property("resolution", numbers(lambda image: image.header.size[0] * image.header.size[1]), made=True)
    yield Property("aspect ratio", numbers(lambda image: image.header.size[0] / image.header.size[1]), made=True)
    values, names = kinds(lambda image: image.header.format)
    yield Property("file format", values, True, names)
    values, names = kinds(lambda image: image.header.mode)
    yield Property("colour mode", values, True, names)
    yield Property("mean brightness", numbers(lambda image: float(image.grey.mean())), made=False)


def _of_texts(data: AuditData) -> Iterator[Property]:
    lengths = [np.nan if text is None else len(text) for text in data.measures.texts]
    yield Property("text length", np.array(lengths, np.float64), made=False)
