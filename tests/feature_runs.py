"""What tests of the feature cache share: a spec with other parts, entries, and what a run says and gives."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import torch
from devices import DEVICE
from safetensors.torch import load_file

from deeptune.data.cache import entry as entry_module
from deeptune.data.cache.entry import EntryInfo
from deeptune.engine import feature_extraction
from deeptune.runs import RunDirectory, read_records
from deeptune.spec.run_spec import SPLITS
from deeptune.spec.toml import validate

ROWS = 150  # five blocks, the last one short
BLOCK = 32  # rows that pass together, on any device
LATE = 0 if DEVICE == "cpu" else BLOCK  # a GPU works on the next block while one is stored


def entries() -> list[EntryInfo]:
    """Those of features: samples are kept in the same cache."""
    return [entry for entry in entry_module.entries() if entry.width is not None]


def merged(spec, parts):
    return validate({key: {**spec.get(key, {}), **parts.get(key, {})} for key in {**spec, **parts}})


def log(run: RunDirectory) -> str:
    return "\n".join(str(event["message"]) for event in read_records(run.events) if "message" in event)


def losses(run: RunDirectory) -> list[float]:
    epochs = [event for event in read_records(run.events) if event["kind"] == "epoch"]
    return [epoch[split]["loss"] for epoch in epochs for split in ("train", "val")]


def same_bits(one: RunDirectory, other: RunDirectory) -> None:
    assert losses(one) == losses(other)
    assert json.loads(one.metrics.read_text()) == json.loads(other.metrics.read_text())
    for name in ("predictions.parquet", *(f"embeddings/{split}.parquet" for split in SPLITS)):
        assert pq.read_table(one.path / name).equals(pq.read_table(other.path / name)), name
    for left, right in zip(*(load_file(run.best / "head.safetensors").values() for run in (one, other)), strict=True):
        assert torch.equal(left, right)


def online(monkeypatch, cache_folder):
    cache_folder("none")
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "0")
    monkeypatch.setattr(feature_extraction, "MEMORY_SHARE", 0.0)
