"""scikit-learn on the frozen features of the same backbone, with the penalty by cross-validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.linear_baseline import cross_validated
from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import DataSet, Files
from benchmarks.recipes.scoring import Predicted
from benchmarks.recipes.training import backbone_values


def predict(cell: Cell, data: DataSet, files: Files) -> Predicted:
    """Fit on all rows of `train`; features come from DeepTune's cache where it has them."""
    from deeptune.data.sources.parquet import open_source
    from deeptune.engine.predict import ApplyOptions, Embedder
    from deeptune.spec.model_spec import BackboneSpec

    embedder = Embedder(BackboneSpec(**backbone_values(cell.backbone)), device="cpu", seed=cell.seed)

    def features(path: Path) -> np.ndarray:
        return embedder.embeddings(open_source(str(path)), ApplyOptions(on_bad_sample="error"))

    model = cross_validated(data.task).fit(features(files.train), pq.read_table(files.train)["labels"].to_numpy())
    test = features(files.test)
    if data.task == "regression":
        return Predicted(numbers=model.predict(test))
    return Predicted(probabilities=model.predict_proba(test), classes=list(model.classes_))
