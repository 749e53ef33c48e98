"""Numbers for the content of each sample: the features of a backbone, or cheap ones where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeptune.auditing.data import SEED, AuditData
from deeptune.auditing.measures import SIDE

PARTS = 64  # components that cheap features are reduced to
MAX_WORDS = 50_000
MAX_ROWS = 20_000  # rows that the components are found on, at most


def content_of(data: AuditData, rows: np.ndarray) -> np.ndarray | None:
    """Give numbers (float32 (M, width)) for the samples of some rows; None for a modality without cheap features.

    Images are small pictures in grey and colours, texts the weights of their words and of pairs of words (TF-IDF), both
    reduced to their main components.
    """
    if data.features is not None:
        found = data.features[rows]
        return found if np.isfinite(found).all() else None
    if len(rows) < 2:
        return None
    if data.measures.images:
        return _components(_pixels(data, rows))
    if data.measures.texts:
        return _words(data, rows)
    return None


def _pixels(data: AuditData, rows: np.ndarray) -> np.ndarray:
    images = [data.measures.images[at] for at in rows.tolist()]
    grey = np.array([one.grey.reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3)).ravel() for one in images if one])
    colours = np.array([one.colours.ravel() for one in images if one], np.float32)
    return np.concatenate([grey.astype(np.float32), colours], axis=1) / 255


def _components(values: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA

    parts = min(PARTS, *values.shape)
    some = np.random.default_rng(SEED).permutation(len(values))[:MAX_ROWS]
    model = PCA(parts, whiten=False, svd_solver="randomized", random_state=SEED).fit(values[some])
    return model.transform(values).astype(np.float32)


def _words(data: AuditData, rows: np.ndarray) -> np.ndarray | None:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [data.measures.texts[at] or "" for at in rows.tolist()]
    words = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, max_features=MAX_WORDS, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"
    )
    try:
        weights = words.fit_transform(texts)
    except ValueError:  # no word is in two texts
        return None
    parts = min(PARTS, weights.shape[1] - 1, len(rows) - 1)
    if parts < 1:
        return None
    return TruncatedSVD(parts, random_state=SEED).fit_transform(weights).astype(np.float32)


def classifier() -> Any:
    """Make the model that predicts a class from content: standardised, then logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
