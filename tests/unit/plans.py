"""Plans of small files that are written for them."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deeptune.data.splits.planner import plan_data
from deeptune.errors import DataError
from deeptune.spec.run_spec import RunSpec


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 4), value).save(out, "PNG")
    return out.getvalue()


def write(path, metadata=None, **columns) -> str:
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return str(path)


def texts(n: int, label=lambda i: i % 2) -> dict:
    return {"text": [f"text {i}" for i in range(n)], "labels": [label(i) for i in range(n)]}


def plan(task="classification", seed=42, progress=None, **data):
    spec = {"task": task, "data": data, "backbone": {"name": "any"}, "train": {"seed": seed}}
    return plan_data(RunSpec.model_validate(spec), progress=progress)


def refusal(*args, **kwargs) -> DataError:
    with pytest.raises(DataError) as caught:
        plan(*args, **kwargs)
    assert caught.value.exit_code == 3
    return caught.value
