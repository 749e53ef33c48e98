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
    return _measure("openclipart7", 1 if settings.quick else 4, backbone, settings)


@line("embed-texts", "embeddings, MiniLM, movie snippets: samples/s over the raw forward pass", at_least=0.95)
def texts(settings: Settings) -> Measured:
    return _measure("movie_snippets", 1, {"name": f"hf:{minilm()}"}, settings, most=600 if settings.quick else None)


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
        with scratch():  # what this stores is not found by the others
            forward = raw_forward(spec)
        cold = _embed(spec, data)
        with scratch():
            _store_samples(spec, data)
            warm = _embed(spec, data)
        with scratch():
            forward = min(forward, raw_forward(spec))  # before and after: a machine is not always equally fast
    made = f"{rows / cold:.4g} samples/s against {rows / forward:.4g}, {rows} rows"
    return Measured(forward / cold, f"{made}; with samples that a former command made: {forward / warm:.2f}")


def _embed(spec: Any, data: Path) -> float:
    """Seconds of the command after its imports: the backbone, samples, features and the written table."""
    from deeptune.engine.predict import Way, embed_with_backbone

    started = time.perf_counter()
    embed_with_backbone(
        spec.backbone, str(data), data.with_name("out.parquet"), Way(),
        input=None, label=spec.data.label, device=spec.train.device,
    )  # fmt: skip
    return time.perf_counter() - started


def _store_samples(spec: Any, data: Path) -> None:
    """Leave decoded or tokenised samples in the cache, as any earlier command on the file does."""
    from deeptune.backbones import load_backbone
    from deeptune.catalog import find
    from deeptune.data.cache import FeatureCache
    from deeptune.data.plan import resolve_columns
    from deeptune.data.samples import open_samples
    from deeptune.data.source import Source

    source = Source.open(str(data))
    _, column = resolve_columns(source, find(spec.backbone.name).modality, None)
    preprocessing = load_backbone(spec.backbone, seed=0).preprocessing
    assert preprocessing is not None
    with FeatureCache(print) as cache:
        open_samples(source, column, preprocessing, cache=cache)
