"""The estimators for scikit-learn."""

from __future__ import annotations

import pickle
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import d2_tweedie_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

import deeptune
from deeptune.errors import DataError, SpecError
from deeptune.sklearn import DeepTuneClassifier, DeepTuneEmbedder, DeepTuneRegressor, SampleError

pytestmark = pytest.mark.usefixtures("no_reports")

TINY = {"weights": "random", "device": "cpu"}
FAST = {"backbone.image_size": 32}


def images(rows: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 32, 32, 3) and their colours."""
    random = np.random.default_rng(0)
    base = np.array([(200, 30, 30), (30, 30, 200)])[np.arange(rows) % 2, None, None]
    found = np.clip(base + random.integers(-30, 30, (rows, 32, 32, 3)), 0, 255).astype(np.uint8)
    return found, np.array(["red", "blue"])[np.arange(rows) % 2]


@pytest.fixture(scope="module")
def fitted() -> DeepTuneClassifier:
    return DeepTuneClassifier(**TINY, epochs=3, settings=FAST).fit(*images())


def test_a_classifier_learns_and_knows_its_classes(fitted):
    X, y = images()
    assert fitted.classes_.tolist() == ["blue", "red"]
    chances = fitted.predict_proba(X)
    assert chances.shape == (24, 2)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert (fitted.predict(X) == fitted.classes_[chances.argmax(axis=1)]).all()
    assert fitted.score(X, y) == 1
    assert isinstance(fitted.run_, deeptune.Run)
    assert fitted.model_.predict(X)["confidence"].to_numpy().tolist() == chances.max(axis=1).tolist()
    assert [one["name"] for one in fitted.run_.metrics["val"]["per_class"]] == ["blue", "red"]


def test_a_pickle_holds_the_model(fitted):
    X, _ = images()
    again = pickle.loads(pickle.dumps(fitted))
    assert again.run_.path != fitted.run_.path
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.get_params() == fitted.get_params()


def test_a_clone_is_not_fitted(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(images()[0])


def test_a_fit_leaves_the_generators_of_the_caller_alone():
    np.random.seed(5)
    before = np.random.random()
    np.random.seed(5)
    DeepTuneClassifier(**TINY, epochs=1, settings=FAST).fit(*images(8))
    assert np.random.random() == before


def test_folds_and_grids_of_texts(review_bert):
    texts = np.array([("a good film", "bad acting")[row % 2] + " the plot" * (row % 3) for row in range(24)])
    y = np.arange(24) % 2
    estimator = DeepTuneClassifier(f"hf:{review_bert}", device="cpu", epochs=1)
    assert cross_val_score(estimator, texts, y, cv=2).shape == (2,)
    search = GridSearchCV(estimator, {"learning_rate": [1e-6, 0.5], "settings": [{"backbone.max_length": 16}]}, cv=2)
    search.fit(pd.DataFrame({"review": texts}), y)
    assert set(search.best_params_) == {"learning_rate", "settings"}
    assert search.best_estimator_.run_.spec.backbone.max_length == 16


def test_a_regressor_predicts_in_the_unit_of_its_labels():
    X, y = images()
    numbers = np.where(y == "red", 100.0, 300.0)
    model = DeepTuneRegressor(**TINY, epochs=20, settings=FAST).fit(X, numbers)
    assert model.score(X, numbers) > 0.5
    assert model.predict(X).dtype == np.float64


def test_a_regressor_of_counts_predicts_rates():
    X, y = images()
    counts = np.where(y == "red", 1, 6)
    model = DeepTuneRegressor(**TINY, settings={**FAST, "task": "count"}).fit(X, counts)
    assert d2_tweedie_score(counts, model.predict(X), power=1) > 0.5
    with pytest.raises(DataError, match="1 of 24 labels in column 'labels' are not counts"):
        DeepTuneRegressor(**TINY, settings={"task": "count"}).fit(X, np.where(np.arange(24) == 3, -1, counts))


def test_an_embedder_is_a_transformer_in_a_pipeline():
    X, y = images()
    embedder = DeepTuneEmbedder(**TINY, settings={"image_size": 32})
    pipeline = make_pipeline(embedder, LogisticRegression()).fit(X, y)
    assert pipeline.score(X, y) == 1
    assert pipeline[0].width_ == 512
    assert pipeline[0].get_feature_names_out()[:2].tolist() == ["deeptuneembedder0", "deeptuneembedder1"]
    vectors = embedder.fit_transform(X)
    assert (vectors.shape, vectors.dtype) == ((24, 512), np.float32)
    again = pickle.loads(pickle.dumps(embedder))
    assert np.array_equal(again.transform(X), vectors)


def test_the_range_of_deep_images_is_that_of_the_fitted_rows():
    deep = [np.full((32, 32), value, np.uint16) for value in (100, 1000)]
    embedder = DeepTuneEmbedder(**TINY, settings={"image_size": 32}).fit(deep)
    assert embedder.value_range_ == (0.0, 1023.0)
    brighter = [np.full((32, 32), value, np.uint16) for value in (1000, 60_000)]
    assert np.array_equal(embedder.transform(deep)[1], embedder.transform(brighter)[0])


def test_a_folder_keeps_the_runs_of_all_fits(tmp_path):
    estimator = DeepTuneClassifier(**TINY, epochs=1, settings=FAST, output=tmp_path / "fits")
    first = estimator.fit(*images(8)).run_
    second = estimator.fit(*images(8)).run_
    assert first.path != second.path
    assert first.spec.data.path != second.spec.data.path
    assert Path(first.spec.data.path).is_file()


def test_wrong_parameters_and_samples_are_the_errors_of_deeptune():
    with pytest.raises(SpecError, match=r"tuning.method: expected .* got 'lor'. Did you mean 'lora'"):
        DeepTuneClassifier(**TINY, method="lor").fit(*images(8))
    with pytest.raises(SampleError, match="y: there is only one class, 'red'"):
        DeepTuneClassifier(**TINY).fit(images(4)[0], ["red"] * 4)
    with pytest.raises(DataError, match="x: row 0 is an array of float64"):
        DeepTuneClassifier(**TINY).fit(images(8)[0] / 255, images(8)[1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        DeepTuneClassifier(**TINY).fit(images(8)[0], images(7)[1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["red", None, "blue", "red"], "y: the label of sample 1 is None"),
        (["red", 1, "blue", 2], "y: the labels are of several types: int, str"),
    ],
)
def test_classes_that_have_no_order_are_refused(y, message):
    with pytest.raises(SampleError, match=message):
        DeepTuneClassifier(**TINY).fit(images(4)[0], np.array(y, object))


def test_what_an_estimator_is_not_made_of_is_one_error():
    X, y = images(4)
    with pytest.raises(SampleError, match=r"x: expected samples, got the path 'photos\.parquet'"):
        DeepTuneClassifier(**TINY).fit("photos.parquet", y)
    with pytest.raises(SpecError, match=r"validation_fraction: expected a share from 0 to below 1, got '0\.1'"):
        DeepTuneClassifier(**TINY, validation_fraction="0.1").fit(X, y)
    with pytest.raises(SpecError, match="random_state: expected an integer, a RandomState or None, got 'x'"):
        DeepTuneClassifier(**TINY, random_state="x").fit(X, y)
    with pytest.raises(SpecError, match=r"output: .* can't hold the run: "):
        DeepTuneClassifier(**TINY, output=__file__).fit(X, y)
    with pytest.raises(SpecError, match="changes: expected a dictionary of keys, got a list"):
        DeepTuneClassifier(**TINY, settings=["head.layers"]).fit(X, y)


def test_a_generator_is_a_list_of_samples():
    X, y = images(8)
    assert DeepTuneClassifier(**TINY, epochs=1, settings=FAST).fit((one for one in X), y).predict(X).shape == (8,)


@pytest.mark.parametrize(
    ("y", "row", "shown"),
    [
        (["1", "2", "3"], 0, "'1'"),
        (np.array([1.5, "2", 3], object), 1, "'2'"),
        (np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "datetime64[D]"), 0, "2024-01-01"),
        (pd.Series(pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"])), 0, "2024-01-01"),
        (np.array([1, 2, 3], "timedelta64[D]"), 0, "1"),
        (pd.Series([1, date(2024, 1, 1), 2]), 1, "2024"),
    ],
)
def test_a_regressor_refuses_digits_in_strings_and_dates(y, row, shown):
    """scikit-learn's own regressors refuse an array of strings; NumPy would make numbers of all of these."""
    X, _ = images(3)
    with pytest.raises(SampleError, match=f"label of sample {row} is .*{shown}.*regression needs numbers"):
        DeepTuneRegressor(**TINY).fit(X, y)
