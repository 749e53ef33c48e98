"""SetFit with its defaults: a sentence encoder tuned on pairs of texts, then logistic regression."""

from __future__ import annotations

import tempfile

import numpy as np
import pyarrow.parquet as pq

from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import DataSet, Files
from benchmarks.recipes.scoring import Predicted
from benchmarks.recipes.training import backbone_values


def predict(cell: Cell, data: DataSet, files: Files) -> Predicted:
    """Train on all rows of `train`, and predict the test file."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    train, test = pq.read_table(files.train), pq.read_table(files.test)
    classes = sorted(set(train["labels"].to_pylist()))
    targets = [classes.index(label) for label in train["labels"].to_pylist()]
    model = SetFitModel.from_pretrained(backbone_values(cell.backbone)["name"].removeprefix("hf:"))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, seed=cell.seed, save_strategy="no", report_to="none")
        rows = Dataset.from_dict({"text": train["text"].to_pylist(), "label": targets})
        Trainer(model, arguments, train_dataset=rows).train()
        chances = np.asarray(model.predict_proba(test["text"].to_pylist(), as_numpy=True), dtype=np.float64)
    return Predicted(probabilities=chances, classes=[classes[index] for index in sorted(set(targets))])
