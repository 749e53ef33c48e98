"""A cell that is a DeepTune run: the spec of its recipe, and the scores of its predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import DataSet, Files
from benchmarks.recipes.scoring import Predicted


def backbone_values(backbone: str) -> dict[str, Any]:
    """Return the section `backbone` of a spec for NAME or NAME@PIXELS; `minilm` is the one of the package index."""
    name, _, pixels = backbone.partition("@")
    if name == "minilm":
        from benchmarks.text import minilm

        name = f"hf:{minilm()}"
    return {"name": name} | ({"image_size": int(pixels)} if pixels else {})


def spec_values(cell: Cell, data: DataSet, files: Files, settings: tuple[str, ...]) -> dict[str, Any]:
    """Return the spec of a cell. What the recipe does not set has its default."""
    from deeptune.spec.toml import apply_override

    values: dict[str, Any] = {
        "task": data.task,
        "data": {"train": str(files.train), "test": str(files.test), "label": "labels"},
        "backbone": backbone_values(cell.backbone),
        "train": {"seed": cell.seed, "device": "cpu", "workers": 0},
        "embed": {"splits": []},
    }
    for setting in settings:
        apply_override(values, setting)
    return values


def predict(cell: Cell, data: DataSet, files: Files, settings: tuple[str, ...], runs: Path) -> Predicted:
    """Train by a recipe, and return what the stored model says of the test file."""
    from deeptune.engine.run import execute
    from deeptune.runs import new_run_directory
    from deeptune.spec.toml import validate

    run = new_run_directory(runs, cell.recipe)
    execute(validate(spec_values(cell, data, files, settings)), run)
    table = pq.read_table(run.predictions)
    if data.task == "regression":
        return Predicted(numbers=table["prediction"].to_numpy())
    classes = json.loads((run.path / "labels.json").read_text())["values"]
    return Predicted(probabilities=np.stack(table["probabilities"].to_numpy(zero_copy_only=False)), classes=classes)
