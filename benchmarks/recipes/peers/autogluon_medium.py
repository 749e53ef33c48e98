"""AutoGluon MultiModal at `medium_quality`, with its own backbone and hyperparameters."""

from __future__ import annotations

import tempfile

import numpy as np
import pyarrow.parquet as pq

from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import DataSet, Files
from benchmarks.recipes.scoring import Predicted


def predict(cell: Cell, data: DataSet, files: Files) -> Predicted:
    """Fine-tune on all rows of `train`, and predict the test file."""
    from autogluon.multimodal import MultiModalPredictor

    train, test = (pq.read_table(path).to_pandas() for path in (files.train, files.test))
    columns = {"images": "image_bytearray"} if data.input == "images" else None
    with tempfile.TemporaryDirectory() as folder:
        predictor = MultiModalPredictor(label="labels", path=f"{folder}/model")
        predictor.fit(train, presets="medium_quality", seed=cell.seed, column_types=columns)
        if data.task == "regression":
            return Predicted(numbers=np.asarray(predictor.predict(test[[data.input]])))
        chances = predictor.predict_proba(test[[data.input]])
    return Predicted(probabilities=chances.to_numpy(np.float64), classes=list(chances.columns))
