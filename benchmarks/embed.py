"""Embeddings of a file by a plain backbone, from the file to the written table, beside one raw forward pass."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.lines import Measured, Settings, line
from benchmarks.partial import raw_forward, scratch, write_sample
from benchmarks.text import minilm


@line(
    "embed-images", "embeddings, ResNet-18 at 96 px, openclipart7: samples/s over the raw forward pass", at_least=0.95
)
def images(settings: Settings) -> Measured:
    backbone = {"name": "resnet18", "weights": "random", "image_size": 96}
    return _measure("openclipart7", 1 if settings.quick else 8, backbone, settings)


@line("embed-texts", "embeddings, MiniLM, movie snippets: samples/s over the raw forward pass", at_least=0.95)
def texts(settings: Settings) -> Measured:
    return _measure(
        "movie_snippets",
        1 if settings.quick else 2,
        {"name": f"hf:{minilm()}"},
        settings,
        most=600 if settings.quick else None,
    )


def _measure(
    sample: str, times: int, backbone: dict[str, Any], settings: Settings, most: int | None = None
) -> Measured:
    from deeptune.spec.toml import validate

    with scratch() as folder:
        data = folder / "data.parquet"
        rows = write_sample(sample, data, times, most)
        spec = validate(
            {"data": {"path": str(data)}, "backbone": backbone, "train": {"device": settings.device, "workers": 0}}
        )
        ways = (_cold, _warm, _make, _raw)
        turns = [[way(spec, data) for way in ways] for _ in range(1 if settings.quick else 3)]
    cold, warm, making, forward = (min(column) for column in zip(*turns, strict=True))
    made = f"{rows / cold:.4g} samples/s against {rows / forward:.4g}, {rows} rows"
    limit = f"{'decoding' if sample == 'openclipart7' else 'tokenising'} alone takes {making:.2g} s on the same cores"
    return Measured(
        forward / cold,
        f"{made}; {limit}: {forward / (forward + making):.2f} at most; with samples that a former command made: "
        f"{forward / warm:.2f}",
    )


# Each with an empty cache: what one stores is not found by the others.


def _cold(spec: Any, data: Path) -> float:
    with scratch():
        return _embed(spec, data)


def _warm(spec: Any, data: Path) -> float:
    with scratch():
        _store_samples(spec, data)
        return _embed(spec, data)


def _make(spec: Any, data: Path) -> float:
    with scratch():
        return _store_samples(spec, data)


def _raw(spec: Any, data: Path) -> float:
    with scratch():
        return raw_forward(spec)


def _embed(spec: Any, data: Path) -> float:
    """Return the seconds of the command after its imports: the backbone, samples, features and the written table."""
    from deeptune.data.sources.parquet import open_source
    from deeptune.engine.predict import ApplyOptions, Embedder

    started = time.perf_counter()
    embedder = Embedder(spec.backbone, device=spec.train.device)
    embedder.label = spec.data.label
    embedder.write_embeddings(open_source(data), data.with_name("out.parquet"), ApplyOptions())
    return time.perf_counter() - started


def _store_samples(spec: Any, data: Path) -> float:
    """Leave decoded or tokenised samples in the cache, as any earlier command on the file does; the seconds of it."""
    from deeptune.backbones import load_backbone
    from deeptune.catalog import find
    from deeptune.data.cache.entry import Cache
    from deeptune.data.columns.input_columns import resolve_columns
    from deeptune.data.loading.open_samples import open_samples
    from deeptune.data.sources.parquet import open_source

    source = open_source(str(data))
    _, column = resolve_columns(source, find(spec.backbone.name).modality, None)
    preprocessing = load_backbone(spec.backbone, seed=0).preprocessing
    assert preprocessing is not None
    with Cache(lambda text: None) as cache:
        started = time.perf_counter()
        open_samples(source, column, preprocessing, cache=cache)
        return time.perf_counter() - started
