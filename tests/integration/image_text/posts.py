"""Posts of a picture with a caption: only the two together tell whether they fit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pictures import png

COLOURS = {"warm": (210, 60, 30), "cold": (30, 60, 210)}
WORDS = {"warm": ("sun", "fire", "summer"), "cold": ("snow", "ice", "winter")}


def rows_of(rows: int, seed: int) -> pa.Table:
    """Pictures with captions: whether they fit can't be told from one of them. `noted` is not part of the input."""
    numbers = np.random.default_rng(seed)
    seen, said = (numbers.choice(["warm", "cold"], rows) for _ in range(2))
    images = [
        png(32, 32, colour=tuple(int(c) for c in np.array(COLOURS[kind]) + numbers.integers(-25, 25, 3)))
        for kind in seen
    ]
    captions = [f"a day of {numbers.choice(WORDS[kind])} and {numbers.choice(WORDS[kind])}" for kind in said]
    labels = ["fits" if one == other else "differs" for one, other in zip(seen, said, strict=True)]
    return pa.table({"images": images, "caption": captions, "labels": labels, "noted": range(rows)})
