"""Images that show nothing, differ in kind from the others, or are read in a way that a person should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding, Severity
from deeptune.auditing.measures import ImageFacts
from deeptune.errors import listed

MAX_ASPECT = 6.0  # ratio of the longer to the shorter side above which an image is odd
MAX_RARE = 0.05  # largest share of images that differ in kind from the others and are odd
MAX_SMALLER = 8.0  # how many times shorter than the median a side may be
MIN_ROWS = 20  # rows from which on most images say what is usual

Test = Callable[[ImageFacts], bool]


def _colour(image: ImageFacts) -> str:
    header = image.header
    if header.deep:
        return "of more than 8 bits"
    if header.mode == "CMYK":
        return "CMYK"
    return "grey" if header.mode in ("1", "L", "LA", "La") else "colour"


_ONE_COLOUR = "are of one colour and show nothing"
# The oddities of a single image: severity, words, test, and remedy.
_ALONE: tuple[tuple[Severity, str, Test, str], ...] = (
    ("warning", _ONE_COLOUR, lambda image: image.flat, "leave these rows out, or write the images again"),
    (
        "warning",
        "have several frames, of which the first is used",
        lambda image: image.header.animated,
        "write each frame that matters as a row of its own",
    ),
    (
        "warning",
        f"are more than {MAX_ASPECT:g} times as long as wide, so that most of them is cropped or squeezed",
        lambda image: max(image.header.size) > MAX_ASPECT * min(image.header.size),
        "crop them, or cut them into tiles",
    ),
    (
        "info",
        "are stored turned and have an EXIF orientation, by which they are turned upright",
        lambda image: image.header.orientation != 1,
        "nothing to do for a run; programs that ignore EXIF see them turned",
    ),
)
# Kinds of which an image should be like the others: words for it, and what an image is.
_KINDS: tuple[tuple[str, Callable[[ImageFacts], str], str], ...] = (
    ("colour", _colour, "write all images alike, for example as 8-bit RGB"),
    ("opacity", lambda image: "transparent" if image.header.opacity else "opaque", "composite them on one ground"),
    ("format", lambda image: image.header.format, "write all images in one format"),
)


def odd_images(data: AuditData) -> Iterator[Finding]:
    """Find images of one colour, of several frames, very long, turned, or unlike the others."""
    images = [(at, image) for at, image in enumerate(data.measures.images) if image is not None]
    if not images:
        return
    for severity, words, test, fix in _ALONE:
        rows = np.array([at for at, image in images if test(image)], np.int64)
        if len(rows):
            text = f"{_count(len(rows), len(images))} {words}: {data.wheres(rows)}"
            yield data.finding("odd_image", severity, rows, text, fix)
    if len(images) < MIN_ROWS:
        return
    yield from _sizes(data, images)
    for name, kind, fix in _KINDS:
        yield from _unlike(data, name, [(at, kind(image)) for at, image in images], fix)


def _count(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} images"


def _sizes(data: AuditData, images: list[tuple[int, ImageFacts]]) -> Iterator[Finding]:
    """Find images that are far smaller than the others, whose few pixels are blown up."""
    sides = np.array([min(image.header.size) for _, image in images])
    usual = float(np.median(sides))
    rows = np.array([at for at, image in images if min(image.header.size) * MAX_SMALLER <= usual], np.int64)
    if len(rows):
        least = int(sides.min())
        text = (
            f"{_count(len(rows), len(images))} are far smaller than the others (down to {least:,} pixels; the median "
        )
        text += f"of the shorter side is {usual:,.0f}): {data.wheres(rows)}"
        yield data.finding("odd_image", "warning", rows, text, "look for the originals; these may be thumbnails")


def _unlike(data: AuditData, name: str, kinds: list[tuple[int, str]], fix: str) -> Iterator[Finding]:
    """Find the few images that are of another kind than nearly all others."""
    counts = Counter(kind for _, kind in kinds)
    usual, most = counts.most_common(1)[0]
    others = len(kinds) - most
    if not 0 < others <= MAX_RARE * len(kinds):
        return
    rows = np.array([at for at, kind in kinds if kind != usual], np.int64)
    what = listed(f"{count:,} {kind}" for kind, count in counts.most_common() if kind != usual)
    text = f"{_count(len(rows), len(kinds))} differ in {name} from the others, which are {usual} ({what}): "
    text += data.wheres(rows)
    yield data.finding("odd_image", "info", rows, text, fix)
