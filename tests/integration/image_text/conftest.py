"""A file of pictures with captions, a backbone for each of the two, and the spec of a run on both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from posts import rows_of
from small_bert import NO_DROPOUT, save_small_bert

from deeptune.spec import RunSpec
from deeptune.spec.toml import validate


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "posts.parquet"
    pq.write_table(rows_of(400, seed=0), path)
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of BERT with random weights, and a tokenizer that knows the words."""
    captions = rows_of(400, seed=0)["caption"].to_pylist()
    folder = tmp_path_factory.mktemp("models") / "bert"
    return save_small_bert(folder, captions, vocabulary=120, limit=32, **NO_DROPOUT)


@pytest.fixture(scope="module")
def spec_of(file: Path, bert: Path) -> Callable[..., RunSpec]:
    """`spec_of("lora", data={…}, epochs=3)`."""

    def make(method: str = "partial", *, data: dict[str, Any] | None = None, **train: Any) -> RunSpec:
        return validate(
            {
                "data": {"path": str(file), "input": ["images", "caption"], **(data or {})},
                "backbone": {
                    "name": "timm:test_resnet", "weights": "random", "image_size": 32, "text": {"name": f"hf:{bert}"},
                },
                "head": {"layers": 2, "embedding_size": 16},
                "tuning": {"method": method},
                "train": {"batch_size": 16, "device": "cpu", "workers": 0, **train},
            }
        )  # fmt: skip

    return make


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """Row 3 has no text, row 5 an image that is none, row 8 neither, row 11 a blank text."""
    table = rows_of(120, seed=0).to_pydict()
    table["caption"][3] = table["caption"][8] = table["images"][8] = None
    table["images"][5], table["caption"][11] = b"no image", "  "
    pq.write_table(pa.table(table), tmp_path / "spoiled.parquet")
    return tmp_path / "spoiled.parquet"
