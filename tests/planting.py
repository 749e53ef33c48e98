"""Clean data of real samples, and problems that are planted into copies of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits

from deeptune.data.sources.parquet import open_source

NAMES = ["zero", "one", "two", "three", "four", "five"]


def png(values: np.ndarray | Image.Image) -> bytes:
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def digits(rows: int = 300) -> tuple[list[bytes], list[str]]:
    """Handwritten digits of six classes with equal numbers of rows, each once."""
    found = load_digits()
    picked = [np.flatnonzero(found.target == code)[: rows // len(NAMES)] for code in range(len(NAMES))]
    order = np.random.default_rng(0).permutation(np.concatenate(picked))
    pictures = [Image.fromarray((found.images[at] * 15).astype(np.uint8)).resize((32, 32)) for at in order.tolist()]
    return [png(one) for one in pictures], [NAMES[found.target[at]] for at in order.tolist()]


def snippets(rows: int = 300) -> tuple[list[str], list[int]]:
    """Sentences of film reviews, as many of each class."""
    table = open_source("sample:movie_snippets").head(["text", "labels"], 2000).to_pydict()
    found = [
        (text, label)
        for wanted in (0, 1)
        for text, label in [one for one in zip(*table.values(), strict=True) if one[1] == wanted][: rows // 2]
    ]
    order = np.random.default_rng(0).permutation(len(found)).tolist()
    return [found[at][0] for at in order], [found[at][1] for at in order]


def write(path: Path, **columns: list) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)
