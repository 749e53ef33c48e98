"""A finished partial run against scikit-learn's cross-validated linear model on the same frozen features.

    python benchmarks/linear_baseline.py RUN [RUN ...]

A run with a head of one layer embeds with the frozen backbone's pooled features, so its own embedding files are
scikit-learn's input: train and val together (cross-validation needs no val split), scored on the same test rows.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from deeptune.runs import RunDirectory
from deeptune.spec import load_spec


def features(run: RunDirectory, *splits: str) -> tuple[np.ndarray, np.ndarray]:
    """Return features, float32 (N, width), and the labels of some splits."""
    table = pa.concat_tables(pq.read_table(run.embeddings(split)).select(["label", "embedding"]) for split in splits)
    return np.stack(table["embedding"].to_numpy()), table["label"].to_numpy()


def cross_validated(task: str) -> GridSearchCV:
    """Return a linear model, to be fitted: scaled or not, and as strongly regularised as cross-validates best."""
    warnings.simplefilter("ignore")
    if task == "classification":
        model, strengths = LogisticRegression(max_iter=500), {"model__C": np.logspace(-4, 2, 7)}
    else:
        model, strengths = Ridge(), {"model__alpha": np.logspace(-2, 5, 15)}
    grid = {"scale": ["passthrough", StandardScaler()], **strengths}
    metric = "accuracy" if task == "classification" else "r2"
    return GridSearchCV(Pipeline([("scale", StandardScaler()), ("model", model)]), grid, cv=5, scoring=metric)


def compare(run: RunDirectory) -> dict[str, object]:
    spec = load_spec(run.spec)
    if not spec.tuning.frozen or spec.head.layers != 1:
        raise SystemExit(f"{run.id}: only a partial run with a head of one layer holds the frozen features")
    x, y = features(run, "train", "val")
    test_x, test_y = features(run, "test")
    metric = "accuracy" if spec.task == "classification" else "r2"
    dummy = DummyClassifier() if spec.task == "classification" else DummyRegressor()
    search = cross_validated(spec.task)
    theirs = search.fit(x, y).score(test_x, test_y)
    ours = json.loads(run.metrics.read_text())["test"][metric]
    return {
        "run": run.id,
        "metric": metric,
        "train": len(y),
        "test": len(test_y),
        "baseline": round(float(dummy.fit(x, y).score(test_x, test_y)), 4),
        "scikit-learn": round(float(theirs), 4),
        "deeptune": round(float(ours), 4),
        "difference": round(float(ours - theirs), 4),
    }


if __name__ == "__main__":
    for path in sys.argv[1:]:
        print(json.dumps(compare(RunDirectory(Path(path)))), flush=True)
