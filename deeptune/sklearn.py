"""Estimators for scikit-learn: fine-tuning and embeddings behind `fit`, `predict` and `transform`.

    from deeptune.sklearn import DeepTuneClassifier, DeepTuneEmbedder

    DeepTuneClassifier("resnet50").fit(images, labels).predict(images)
    make_pipeline(DeepTuneEmbedder("resnet50"), LogisticRegression()).fit(images, labels)

X is what `deeptune.Model` takes: names of files, NumPy arrays, PIL images or encoded bytes for a backbone of images,
strings for one of texts; or a table with one column, or with a column of the usual name (`images`, `text`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d

from deeptune.api.inputs import Columns, source_of
from deeptune.api.run import Run, finetune, load
from deeptune.catalog import find
from deeptune.data.columns.input_columns import attach_files, check_samples
from deeptune.data.modalities.base import is_missing
from deeptune.errors import DataError, SpecError, listed
from deeptune.spec.modalities import MODALITIES
from deeptune.spec.tasks import USUAL_TASKS
from deeptune.spec.toml import validate

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from deeptune.api.model import Model
    from deeptune.data.sources.source import Source
    from deeptune.engine.predict import Embedder

LABEL = "labels"
MIN_VAL_ROWS = 2  # a smaller part of the rows says nothing of an epoch


class SampleError(DataError, ValueError):
    """Samples or labels that can't be fitted: a ValueError, as scikit-learn expects of an estimator."""


class _OfSamples(BaseEstimator):
    """An estimator whose X are images or texts."""

    def _source(self, X: Any, y: Any = None) -> Source:
        """Return X, with y beside it, as a source. Raises DataError that names the argument and the row."""
        info = MODALITIES[find(self.backbone).modality]
        if getattr(X, "ndim", 0) == 2 and getattr(X, "columns", None) is not None and X.shape[1] == 1:
            X = X[X.columns[0]]  # a table of one column, whatever its name
        return source_of(X, Columns(info.name, info.input, LABEL), y=y, labelled=y is not None)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        text = MODALITIES[find(self.backbone).modality].counts_tokens
        tags.input_tags.string, tags.input_tags.two_d_array = text, False
        tags.input_tags.three_d_array = not text
        tags.input_tags.allow_nan = False
        tags.no_validation = True  # of tables of numbers, which X is not
        return tags


class _FineTuned(_OfSamples):
    """The base class of the classifier and the regressor: a run on X and y, and its model."""

    _task: str
    _KEPT = ("spec.toml", "run.json", "labels.json", "result.json", "metrics.json", "backbone", "checkpoints/best")

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        weights: str = "pretrained",
        method: str = "partial",
        epochs: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        validation_fraction: float = 0.1,
        settings: dict[str, Any] | None = None,
        device: str = "auto",
        output: str | os.PathLike[str] | None = None,
        random_state: int | None = 42,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.method = method
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.settings = settings
        self.device = device
        self.output = output
        self.random_state = random_state

    def _fit(self, X: Any, y: np.ndarray) -> Self:
        X = _samples(X)
        check_consistent_length(X, y)
        source = self._source(X, y)
        if source.num_rows < 2:
            raise SampleError(f"x: there is {source.num_rows} sample", hint="Give two samples or more.")
        self._folder = TemporaryDirectory(prefix="deeptune-") if self.output is None else None
        root = Path(self._folder.name if self._folder else os.fspath(self.output))  # type: ignore[arg-type]
        try:
            root.mkdir(parents=True, exist_ok=True)
            data = _numbered(root)
        except OSError as error:
            raise SpecError(f"output: {root} can't hold the run: {error.strerror or error}") from error
        table = pa.table({name: source.column(name) for name in source.column_names})
        pq.write_table(table.replace_schema_metadata(self._names()), data)
        self.run_ = finetune(self._spec(source, data), self.settings, output=root, in_process=True, progress=False)
        self._model = self.run_.model(self.device)
        return self

    def _names(self) -> dict[str, str] | None:
        """Return what the file of the data says of its labels."""
        return None

    def _spec(self, source: Source, data: Path) -> dict[str, Any]:
        share = self.validation_fraction
        if not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise SpecError(f"validation_fraction: expected a share from 0 to below 1, got {share!r}")
        share = share if share * source.num_rows >= MIN_VAL_ROWS else 0.0
        info = MODALITIES[find(self.backbone).modality]
        return {
            "task": self._task,
            "data": {
                "path": data,
                "root": Path.cwd(),
                "modality": info.name,
                "input": info.input,
                "label": LABEL,
                "many_classes": True,
                "split": {"train": 1 - share, "val": share, "test": 0.0},
            },
            "backbone": {"name": self.backbone, "weights": self.weights},
            "tuning": {"method": self.method},
            "train": {
                "epochs": self.epochs,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "device": self.device,
                "seed": _seed(self.random_state),
            },
            "embed": {"splits": []},
        }

    @property
    def model_(self) -> Model:
        """The fitted model, as `deeptune.load` gives it."""
        check_is_fitted(self, "run_")
        if getattr(self, "_model", None) is None:
            self._model = load(self.run_, device=self.device)
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters, and of the run the files that its model is made of: another machine may load them."""
        state = dict(super().__getstate__())
        for name in ("_folder", "_model"):
            state.pop(name, None)
        if (run := state.pop("run_", None)) is not None:
            state["_files"] = {str(path.relative_to(run.path)): path.read_bytes() for path in _files(run, self._KEPT)}
            state["_run_id"] = run.id
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        files, name = state.pop("_files", None), state.pop("_run_id", None)
        super().__setstate__(state)
        if files is not None:
            self._folder = TemporaryDirectory(prefix="deeptune-")
            folder = Path(self._folder.name) / name
            for path, content in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
            self.run_ = Run(folder)


class DeepTuneClassifier(ClassifierMixin, _FineTuned):
    """Fine-tune a backbone to tell classes apart.

    Parameters are those of a run spec: `backbone` and `weights` name the network, `method` is "partial" (the head on
    frozen features), "full" or "lora"; `epochs`, `batch_size` and `learning_rate` are "auto" or numbers.
    `validation_fraction` of the rows choose the best epoch; there is no test split, as scikit-learn scores on rows of
    its own. `settings` has any other key of a spec, dotted: {"head.layers": 2}. `output` is a folder that keeps the
    run and its data; by default both live as long as the estimator. `random_state` seeds all that is random.

    After `fit`: `classes_` (n_classes,) sorted, `run_` (deeptune.Run), `model_` (deeptune.Model).
    """

    _task = USUAL_TASKS["classes"]

    def fit(self, X: Any, y: Any) -> Self:
        """Fine-tune on samples X and their classes y (n_samples,). Raises the errors of `deeptune.finetune`."""
        X, y = _samples(X), _labels(y)
        if not len(y):
            raise SampleError("y: there is 0 sample", hint="Give two samples or more.")
        check_consistent_length(X, y)
        _refuse_mixed(y)
        check_classification_targets(y)
        self.classes_, indices = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            only = self.classes_.tolist()[0]
            raise SampleError(f"y: there is only one class, {only!r}", hint="Give two classes or more.")
        return self._fit(X, indices)

    def _names(self) -> dict[str, str]:
        return {"label_names": json.dumps([str(name) for name in self.classes_])}

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, in the order of `classes_`: float64 (n_samples, n_classes)."""
        model = self.model_  # raises NotFittedError
        table = model.predict(self._source(X))
        flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, len(self.classes_))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each sample, (n_samples,)."""
        chances = self.predict_proba(X)
        return self.classes_[chances.argmax(axis=1)]


class DeepTuneRegressor(RegressorMixin, _FineTuned):
    """Fine-tune a backbone to predict numbers.

    Parameters and attributes are those of `DeepTuneClassifier`, without `classes_`.
    """

    _task = USUAL_TASKS["numbers"]

    def fit(self, X: Any, y: Any) -> Self:
        """Fine-tune on samples X and numbers y (n_samples,). Raises the errors of `deeptune.finetune`."""
        y = _labels(y)
        _refuse_text_and_times(y)
        return self._fit(X, check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"))

    def predict(self, X: Any) -> np.ndarray:
        """Return a number for each sample, in the unit of y: float64 (n_samples,)."""
        model = self.model_  # raises NotFittedError
        return model.predict(self._source(X))["prediction"].to_numpy()


class DeepTuneEmbedder(TransformerMixin, _OfSamples):
    """Embed images or texts with a pretrained backbone: its pooled features, before any fine-tuning.

    `settings` has keys of `backbone` in a run spec: {"image_size": 384, "pooling": "max"}. For an embedding that was
    fine-tuned, use `deeptune.load(run).embed`.

    After `fit`: `value_range_`, the range that is scaled to 0 to 255 in images of more than 8 bits (found on the
    rows of `fit`; None where there are none), and `width_`, the numbers in an embedding.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        weights: str = "pretrained",
        settings: dict[str, Any] | None = None,
        batch_size: int | None = None,
        device: str = "auto",
        random_state: int | None = 42,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.settings = settings
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - the signature of transformers
        """Load the backbone, and find the range of images of more than 8 bits. Nothing is trained."""
        from deeptune.data.images.bit_depth import range_of

        source, info = self._source(X), MODALITIES[find(self.backbone).modality]
        attach_files(source, info.name, info.input)
        self.value_range_ = range_of(check_samples(source, info.input, info.name).deep.values())
        self.width_ = self._embedder.backbone.width
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return an embedding for each sample: float32 (n_samples, `width_`).

        Raises DataError for a sample that is none.
        """
        from deeptune.engine.predict import ApplyOptions

        check_is_fitted(self, "width_")
        embedder = self._embedder
        embedder.value_range = self.value_range_
        return embedder.embeddings(self._source(X), ApplyOptions(self.batch_size, "error"))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:  # noqa: ARG002
        """Return `deeptuneembedder0` and so on, as scikit-learn names the outputs of a transformer."""
        check_is_fitted(self, "width_")
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{number}" for number in range(self.width_)], object)

    @property
    def _embedder(self) -> Embedder:
        if getattr(self, "_loaded", None) is None:
            from deeptune.engine.predict import Embedder

            chosen = {"name": self.backbone, "weights": self.weights, **(self.settings or {})}
            spec = validate({"data": {"path": "."}, "backbone": chosen}).backbone
            self._loaded = Embedder(spec, device=self.device, seed=_seed(self.random_state))
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_loaded", None)
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def _labels(y: Any) -> np.ndarray:
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    return column_or_1d(y, warn=True)


def _samples(X: Any) -> Any:
    """Return samples that a generator gives as a list, others as they are. Raises SampleError for a path."""
    if isinstance(X, (str, os.PathLike)):
        raise SampleError(
            f"x: expected samples, got the path {os.fspath(X)!r}",
            hint="Read it first, such as with pandas; deeptune.finetune takes files.",
        )
    return list(X) if isinstance(X, Iterator) else X


def _refuse_mixed(y: np.ndarray) -> None:
    """Raise SampleError for classes that have no order: missing ones, and strings beside others."""
    if y.dtype != object:
        return
    row = next((row for row, one in enumerate(y) if is_missing(one)), None)
    if row is not None:
        raise SampleError(f"y: the label of sample {row} is {y[row]!r}", hint="Leave out samples without a label.")
    kinds = sorted({type(one).__name__ for one in y})
    if "str" in kinds and len(kinds) > 1:
        raise SampleError(f"y: the labels are of several types: {listed(kinds)}", hint="Convert them to one type.")


def _refuse_text_and_times(y: np.ndarray) -> None:
    """Raise SampleError for labels that NumPy would turn into numbers without a word: digits in strings, and dates."""
    no_numbers = (str, bytes, date, timedelta, np.datetime64, np.timedelta64)
    kinds = "USMm" if y.dtype.kind != "O" else ""
    row = 0 if y.dtype.kind in kinds else next((i for i, one in enumerate(y) if isinstance(one, no_numbers)), None)
    if y.dtype.kind in "biuf" or row is None or not len(y):
        return
    raise SampleError(
        f"y: the label of sample {row} is {y[row]!r}, and regression needs numbers",
        hint="Convert them: numpy.asarray(y, float) for digits in strings; days or years since a date for dates.",
    )


def _seed(random_state: Any) -> int:
    """Return a seed from what scikit-learn calls a random state."""
    if random_state is None or hasattr(random_state, "randint"):
        return int((random_state or np.random).randint(2**31))
    if not isinstance(random_state, (int, np.integer)):
        raise SpecError(f"random_state: expected an integer, a RandomState or None, got {random_state!r}")
    return int(random_state)


def _numbered(root: Path) -> Path:
    """Return a name for the data of a fit that no other fit in the folder has."""
    number = 0
    while (path := root / f"data-{number}.parquet").exists():
        number += 1
    path.touch()
    return path


def _files(run: Run, kept: tuple[str, ...]) -> list[Path]:
    """Return the files of a run that are in `kept`, or in a folder of it."""
    found = [run.path / name for name in kept]
    inner = [file for path in found if path.is_dir() for file in sorted(path.rglob("*"))]
    return [path for path in [*found, *inner] if path.is_file()]
