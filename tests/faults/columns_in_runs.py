"""What tests of column types share: tiny tables, their spec, their plan, and the embeddings that a run writes."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import assume
from unit.conftest import _words

from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import TextPreprocessing
from deeptune.data.sources.source import Source
from deeptune.data.splits.plan import DataPlan
from deeptune.data.splits.planner import draft_plan, plan_data
from deeptune.engine import writers
from deeptune.engine.inference import Outputs
from deeptune.engine.row_order import windows
from deeptune.errors import DataError
from deeptune.spec.toml import validate

ROWS = 36
TEXTS = ["a good film", "bad", "a bad film"] * (ROWS // 3)
LABELS = ["good", "bad", "bad"] * (ROWS // 3)
PATIENTS = pa.ExtensionArray.from_storage(
    pa.uuid(), pa.array([uuid.UUID(int=row // 2).bytes for row in range(ROWS)], pa.binary(16))
)


def write(path: Path | str, table: dict[str, Any], **options: Any) -> Path:
    """A file, or no example where Arrow itself writes no such column."""
    try:
        pq.write_table(pa.table(table), path, **options)
    except (OSError, ValueError, NotImplementedError, pa.ArrowException):
        assume(False)
    return Path(path)


def spec_of(path: Path | str, *, task: str = "classification", **data: Any):
    return validate({"task": task, "data": {"path": str(path), **data}, "backbone": {"name": "resnet18"}})


def embeddings_of(source: Source, path: Path, rows: np.ndarray, *, label: str | None, input: str) -> pa.Table:
    """The table of embeddings that a run writes of some rows."""
    model = SimpleNamespace(last_layer=SimpleNamespace(in_features=2, out_features=1))
    found = [Outputs(rows, np.zeros((len(rows), 1), np.float32), np.zeros((len(rows), 2), np.float32))]
    with writers.embedding_file(path, source, writers.Roles(input, label)) as write_window:
        for window in windows(found, rows, model, embed=True, size=7):
            write_window(window)
    return pq.read_table(path)


def planned(spec) -> DataPlan | DataError:
    """What a dry run makes of the data, which is what the run makes of it."""
    try:
        dry: Any = plan_data(spec)
    except DataError as error:
        dry = error
    try:
        draft = draft_plan(spec)
        if draft.modality == "text":
            preprocessing = TextPreprocessing(_words(special=True), 16, 0)
            samples = {source: open_samples(source, draft.input, preprocessing) for source, _ in draft.sources(None)}
            run: Any = draft.finish(lambda source, rows: samples[source].bad(rows))
        else:
            run = dry
    except DataError as error:
        run = error
    assert type(dry) is type(run)
    if isinstance(dry, DataError):
        assert dry.message == run.message
    else:
        assert dry.bad_samples == run.bad_samples
    return dry
