"""scikit-learn's own checks of an estimator, for what an estimator of images or texts shares with all others.

The checks make tables of numbers. An estimator of texts takes them once each row is written as one.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from deeptune.sklearn import DeepTuneClassifier, DeepTuneEmbedder, DeepTuneRegressor

WORDS = "a the good bad film plot acting story never great"


class _OfRows:
    """Writes each row of a table as a text: a word for each number, by its size."""

    def _source(self, X, y=None):
        X = validate_data(self, X, reset=y is not None or not hasattr(self, "n_features_in_"), dtype=np.float64)
        words = np.array(WORDS.split())
        places = np.clip((X + 3) / 6 * len(words), 0, len(words) - 1).astype(int)
        return super()._source([" ".join(row) for row in words[places]], y)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = True, False
        tags.no_validation = False
        for task in (tags.classifier_tags, tags.regressor_tags):
            if task is not None:
                task.poor_score = True  # one epoch of an untrained network learns little of random words
        return tags


class RowClassifier(_OfRows, DeepTuneClassifier):
    """A classifier of written rows."""


class RowRegressor(_OfRows, DeepTuneRegressor):
    """A regressor of written rows."""


class RowEmbedder(_OfRows, DeepTuneEmbedder):
    """A transformer of written rows."""


ESTIMATORS = [
    RowClassifier("hf:tiny", device="cpu", epochs=1),
    RowRegressor("hf:tiny", device="cpu", epochs=1),
    RowEmbedder("hf:tiny", device="cpu"),
]


@pytest.fixture(autouse=True)
def _tiny(tiny_bert, tmp_path, monkeypatch):
    """The backbone `hf:tiny` is a folder of that name."""
    (tmp_path / "tiny").symlink_to(tiny_bert)
    monkeypatch.chdir(tmp_path)


@parametrize_with_checks(ESTIMATORS)  # none is expected to fail
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
