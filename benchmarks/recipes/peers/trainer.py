"""Hugging Face `Trainer` with its defaults: three epochs, batches of 8, 5e-5, the last weights."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.recipes.cells import Cell
from benchmarks.recipes.datasets import DataSet, Files
from benchmarks.recipes.scoring import Predicted
from benchmarks.recipes.training import backbone_values


def predict(cell: Cell, data: DataSet, files: Files) -> Predicted:
    """Fine-tune all weights on all rows of `train`, and predict the test file."""
    from scipy.special import softmax
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    source = backbone_values(cell.backbone)["name"].removeprefix("hf:")
    train, test = pq.read_table(files.train), pq.read_table(files.test)
    tokenizer = AutoTokenizer.from_pretrained(source)
    classes = sorted(set(train["labels"].to_pylist())) if data.task == "classification" else []
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=len(classes) or 1)

    def rows(table: Any, *, labelled: bool) -> list[dict[str, Any]]:
        tokens = tokenizer(table["text"].to_pylist(), truncation=True)
        found = [{name: values[row] for name, values in tokens.items()} for row in range(len(table))]
        if labelled:
            for row, label in zip(found, table["labels"].to_pylist(), strict=True):
                row["labels"] = classes.index(label) if classes else float(label)
        return found

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, seed=cell.seed, save_strategy="no", report_to="none", disable_tqdm=True)
        trainer = Trainer(model, arguments, train_dataset=rows(train, labelled=True), processing_class=tokenizer)
        trainer.train()
        logits = np.asarray(trainer.predict(rows(test, labelled=False)).predictions)  # type: ignore[arg-type]
    if not classes:
        return Predicted(numbers=logits.ravel())
    return Predicted(probabilities=softmax(logits.astype(np.float64), axis=1), classes=classes)
