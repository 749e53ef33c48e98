"""Use a finished run, or a plain backbone, on other data, whatever number of rows this has."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from deeptune.backbones import load_backbone
from deeptune.backbones.base import Backbone
from deeptune.data.cache.entry import Cache, NoCache
from deeptune.data.columns.input_columns import attach_files, resolve_columns
from deeptune.data.columns.kept_columns import require_kept
from deeptune.data.images.bit_depth import Range, range_of, range_text
from deeptune.data.loading.dataset import Dataset, FeatureInputs, Inputs, SampleOptions
from deeptune.data.loading.loader import Loader, LoaderOptions
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.samples import Samples
from deeptune.data.modalities.base import Need
from deeptune.data.modalities.checked_samples import BadSample
from deeptune.data.sources.source import Source
from deeptune.data.splits.class_names import LabelColumn, Relabel, known_relabelling
from deeptune.data.splits.data_warnings import size_notes
from deeptune.data.splits.plan import read_targets
from deeptune.engine import inference
from deeptune.engine.device import HEAD_ROWS, Compute, choose_compute, rows_at_once, rows_scored_at_once, tokens_at_once
from deeptune.engine.embedding_form import LIST, EmbeddingForm
from deeptune.engine.extraction_job import FrozenBackbone
from deeptune.engine.feature_extraction import features_of_file
from deeptune.engine.inference import Inference, MeanLoss, Scorer
from deeptune.engine.layer_embedder import LayerEmbedder, NoOutputs
from deeptune.engine.loss import Criterion
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.prepare import decoding_workers_beside
from deeptune.engine.row_order import Window, windows
from deeptune.engine.trained_model import TrainedModel, compute_of_run, load_run
from deeptune.engine.writers import (
    PredictionColumns,
    Roles,
    embedding_file,
    left_out_notes,
    prediction_file,
    prediction_table,
)
from deeptune.errors import CheckpointError, DataError, SpecError
from deeptune.progress import Progress
from deeptune.runs import RunDirectory
from deeptune.runs.looks import By, record_samples
from deeptune.spec.backbone_info import backbone_info
from deeptune.spec.calibration_spec import MAX_COVERAGE, MIN_COVERAGE
from deeptune.spec.modalities import Input, columns_of
from deeptune.spec.run_spec import BackboneSpec


class PooledBackbone(nn.Module):
    """A plain backbone behind the interface of a tuned model: its embedding is its pooled features."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.last_layer = NoOutputs(backbone.width)

    def embed(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Give the pooled features, (B, width)."""
        return inputs["features"] if "features" in inputs else self.backbone(inputs)


class BadSamples(DataError):
    """Samples that can't be used, where `on_bad_sample` is "error"."""


def _ignore(*_: object) -> None:
    """Do nothing: for progress and sentences that nobody asked for."""


@dataclass(frozen=True)
class ApplyOptions:
    """Options that apply a model to data.

    `batch_size` is the number of rows that pass together, by default that of the run. `on_bad_sample` says what a
    sample that can't be used does: "skip" leaves nulls and the reason in its row, "error" raises BadSamples.
    `progress(done, total)` counts rows. `notify` gets sentences, such as one on memory that runs out. Of predictions
    alone: one whose confidence is below `abstain_below` becomes null, and `coverage` is that of sets and intervals, by
    default the run's own. `form` is that of written embeddings.
    """

    batch_size: int | None = None
    on_bad_sample: str = "skip"
    progress: Progress = _ignore
    notify: Callable[[str], None] = _ignore
    abstain_below: float | None = None
    coverage: float | None = None
    form: EmbeddingForm = LIST

    def __post_init__(self) -> None:
        if self.on_bad_sample not in ("skip", "error"):
            raise SpecError(f"on_bad_sample: expected 'skip' or 'error', got {self.on_bad_sample!r}")
        whole = isinstance(self.batch_size, Integral) and not isinstance(self.batch_size, bool)
        if self.batch_size is not None and not (whole and self.batch_size >= 1):
            raise SpecError(f"batch_size: expected an integer of at least 1, got {self.batch_size!r}")
        if self.abstain_below is not None and not (_is_number(self.abstain_below) and 0 <= self.abstain_below <= 1):
            raise SpecError(f"abstain_below: expected a confidence from 0 to 1, got {self.abstain_below!r}")
        if self.coverage is not None and not (
            _is_number(self.coverage) and MIN_COVERAGE <= self.coverage <= MAX_COVERAGE
        ):
            raise SpecError(f"coverage: expected a share from {MIN_COVERAGE} to {MAX_COVERAGE}, got {self.coverage!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class CheckedRows:
    """All rows of a source, with their samples, and the cache that takes their features.

    `errors` says, by row, why a sample can't be used.
    """

    source: Source
    input: Input
    samples: Samples
    errors: dict[int, str]
    cache: Cache

    @property
    def rows(self) -> np.ndarray:
        """All rows, int64 (N,)."""
        return np.arange(self.source.num_rows, dtype=np.int64)

    @property
    def usable(self) -> np.ndarray:
        """Rows whose sample can be used, int64, ascending."""
        return np.setdiff1d(self.rows, np.array(list(self.errors), np.int64), assume_unique=True)


def workers_for(compute: Compute, data: CheckedRows) -> int:
    """Return how many processes decode the samples of a file beside a device, as a run has them."""
    return decoding_workers_beside(compute, [data.samples])


class Embedder:
    """A plain backbone, without any head: its embeddings are its pooled features.

    `input` and `label` are columns; the input column is found in the data where it is None. Images of more than 8 bits
    are scaled from `value_range`, which "auto" finds on the rows of the data. The file of the data may lack a label.
    """

    input: Input | None = None
    label: Input = "labels"
    value_range: Range | Literal["auto"] | None = "auto"
    batch_size: int | None = None  # rows at once, where the options name none
    admit: Callable[[float], None] | None = None  # may end a pass, as that of FrozenBackbone

    def __init__(self, spec: BackboneSpec, *, device: str = "auto", seed: int = 42) -> None:
        self.compute = choose_compute(device)
        self.modality: str | None = backbone_info(spec).modality
        self.backbone = load_backbone(spec, seed=seed).to(self.compute.device)
        self.model: Scorer = PooledBackbone(self.backbone)
        self.frozen = True

    def at_layer(self, name: str) -> Self:
        """Return the same with embeddings of the layer `name`. Raises SpecError for another name."""
        other = copy.copy(self)
        assert self.backbone.preprocessing is not None
        other.model = LayerEmbedder(cast(nn.Module, self.model), name, self.backbone.preprocessing)
        other.frozen = False  # features of the cache come from the end of the backbone
        return other

    def embeddings(self, source: Source, options: ApplyOptions) -> np.ndarray:
        """Return an embedding for each row, float32 (N, width); NaN where the sample can't be used.

        Raises DataError for data that does not fit, and for a sample that can't be used where the options say so.
        """
        with self.checked_rows(source, options) as data:
            embeddings = np.full((source.num_rows, self.model.last_layer.in_features), np.nan, np.float32)
            for window in self._outputs(data, options, embed=True):
                embeddings[window.outputs.rows] = window.outputs.embeddings
        return embeddings

    def write_embeddings(self, source: Source, output: Path, options: ApplyOptions) -> dict[int, str]:
        """Write an embedding for each row, beside the columns of the source that are not input.

        Returns, by row, why a row has none. Raises as `embeddings` does, and CheckpointError where the file can't be
        written.
        """
        options.form.require_fits(output)
        _, input = resolve_columns(source, self.modality, self.input)
        label = self.label if set(columns_of(self.label)) <= set(source.column_names) else None
        require_kept(source, input=input, label=label)
        relabel = None if label is None else self._relabelling(source, label)
        for note in left_out_notes(output, source, input=input, label=label):
            options.notify(note)
        with (
            self.checked_rows(source, options) as data,
            embedding_file(
                output, source, Roles(input, label, relabel), errors=data.errors, form=options.form
            ) as write,
        ):
            for window in self._outputs(data, options, embed=True):
                write(window)
        return data.errors

    def _relabelling(self, source: Source, label: Input) -> Relabel | None:
        """Return a function that maps the labels of a source to the model's own values."""
        return None

    @contextmanager
    def checked_rows(self, source: Source, options: ApplyOptions) -> Iterator[CheckedRows]:
        """Decode or tokenise the samples of a source, or find them in the cache, and list those that can't be used."""
        modality, input = resolve_columns(source, self.modality, self.input)
        attach_files(source, modality, input)
        for note in self.backbone.notes:
            options.notify(note)
        preprocessing = self.backbone.preprocessing
        assert preprocessing is not None
        kind = Cache if source.worth_caching else NoCache
        with kind(options.notify) as cache:
            open_in = partial(open_samples, source, input, preprocessing, cache=cache, progress=options.progress)
            known = None if self.value_range == "auto" else self.value_range
            samples = open_in(need=Need(value_range=known))
            if self.value_range == "auto" and samples.deep:
                known = range_of(samples.deep.values())
                assert known is not None
                found = f"{range_text(known)}, found on all rows, become grey levels 0 to 255"
                options.notify(f"images of more than 8 bits: {found}")
                samples = open_in(need=Need(value_range=known))
            if known is not None and samples.clipped:
                rows = f"{len(samples.clipped):,} of {source.num_rows:,} rows"
                options.notify(f"{rows} have values outside of {range_text(known)}, which are clipped")
            bad = samples.bad(np.arange(source.num_rows))
            if bad and options.on_bad_sample == "error":
                raise BadSamples(
                    _listing(bad, source),
                    hint='With on_bad_sample = "skip" they are left out, with nulls in their place.',
                )
            data = CheckedRows(source, input, samples, {sample.row: sample.reason for sample in bad}, cache)
            for remark in samples.remarks(data.usable):
                options.notify(remark)
            yield data

    def _outputs(
        self,
        data: CheckedRows,
        options: ApplyOptions,
        *,
        embed: bool = False,
        targets: np.ndarray | None = None,
        loss: MeanLoss | None = None,
    ) -> Iterator[Window]:
        """Return what the model says of every row. `targets`, for `loss`, are one for each.

        The features of a frozen backbone are read from the cache, or stored there.
        """
        device = self.compute.device
        cuda = device.type == "cuda"
        limit = MicroBatcher(options.notify, tokens=tokens_at_once(device))
        rows, batch_size = data.usable, options.batch_size or self.batch_size
        targets = None if targets is None else targets[rows]
        features = None
        if self.frozen:
            samples, workers = {data.source: data.samples}, workers_for(self.compute, data)
            frozen = FrozenBackbone(self.backbone, self.compute, data.input, samples, workers, admit=self.admit)
            blank = frozenset(data.errors)
            features = features_of_file(frozen, data.source, blank, data.cache, options.progress, limit)
        inputs: Inputs
        if features is not None:
            inputs, batch_size = FeatureInputs([features]), max(batch_size or 0, HEAD_ROWS)
        else:
            inputs = data.samples.inputs(SampleOptions(pad_multiple=8 if cuda else 1))
        loading = LoaderOptions(
            batch_size or rows_at_once(device),
            by_length=True,
            workers=0 if features is not None else workers_for(self.compute, data),
            pin_memory=cuda and features is None,
        )
        batches = Loader(Dataset(inputs, rows, targets), loading)
        found = Inference(self.model, self.compute, limit).outputs(
            batches, embed=embed, loss=loss, total=len(rows), progress=options.progress
        )
        return windows(found, data.rows, self.model, embed=embed)


class Predictor(Embedder):
    """The best model of a finished run, with the run's own columns, preprocessing and labels.

    Precision is the run's own where the run was trained on a device of the same type.
    """

    def __init__(self, run: RunDirectory, *, device: str = "auto") -> None:
        self.run = run
        self.compute = compute_of_run(run, device)
        self.trained: TrainedModel = load_run(run, device=self.compute.device)
        self.spec, self.task = self.trained.spec, self.trained.task
        data = self.spec.data
        self.modality, self.input, self.label = data.modality, data.input, data.label
        self.value_range = self.trained.value_range
        self.batch_size = rows_scored_at_once(self.compute.device, int(self.spec.train.batch_size))
        self.model = self.trained.model
        self.backbone, self.frozen = self.trained.model.backbone, self.trained.model.frozen

    def predictions(self, source: Source, options: ApplyOptions) -> pa.Table:
        """Return a prediction for each row, as `writers.prediction_table`. Raises as `embeddings` does."""
        said = self._said(options)
        with self.checked_rows(source, options) as data:
            found = self._outputs(data, options)
            return pa.concat_tables([prediction_table(window, said, errors=data.errors) for window in found])

    def write_predictions(self, source: Source, output: Path, options: ApplyOptions) -> dict[int, str]:
        """Write the same to a file, some rows at a time; returns, by row, why a row has none."""
        said = self._said(options)
        with (
            self.checked_rows(source, options) as data,
            prediction_file(output, said, errors=data.errors) as write,
        ):
            for window in self._outputs(data, options):
                write(window)
        return data.errors

    def _said(self, options: ApplyOptions) -> PredictionColumns:
        """Apply the options of predictions to the task. Raises SpecError for an option that the task does not have."""
        task = self.task if options.coverage is None else self.task.at_coverage(options.coverage)
        if options.abstain_below is not None and task.info.view == "numbers":
            raise SpecError(
                "abstain_below: predicted numbers have no confidence between 0 and 1",
                hint="Leave out rows by the width of their interval: the columns `lower` and `upper`.",
            )
        return PredictionColumns(task, options.abstain_below)

    def evaluate(self, source: Source, options: ApplyOptions) -> tuple[dict[str, Any], dict[int, str]]:
        """Return the metrics on the rows of a labelled source that can be scored, and why others can't be, by row."""
        spec, task = self.spec, self.task
        resolve_columns(source, self.modality, self.input)  # before the labels are read
        truth = read_targets(source, self.label, task)
        targets = task.model_targets(truth)
        loss = None
        if spec.train.class_weights == "none":  # they came from the training rows: no loss rather than another one
            loss = MeanLoss(Criterion(str(spec.train.loss), label_smoothing=spec.train.label_smoothing))
        with self.checked_rows(source, options) as data:
            found = self._outputs(data, options, targets=targets, loss=loss)
            outputs = inference.joined([window.outputs for window in found], self.model)
            hashes = data.samples.hashes[outputs.rows]
        if not len(outputs):
            raise DataError(
                f"{source.key}: no row of {source.describe()} can be scored",
                hint="Each sample is unusable. `deeptune predict` writes the reason of each into its column `error`.",
            )
        metrics = inference.score(outputs, truth[outputs.rows], task, loss.value if loss else None)
        metrics["notes"] += size_notes("the file", truth[outputs.rows], task)
        self.record_look("evaluate", hashes, options.notify)
        return metrics, data.errors

    def scored(self, source: Source, options: ApplyOptions) -> tuple[pa.Table, np.ndarray]:
        """Return predictions and truths of a labelled source as in predictions.parquet, and the hashes of its rows."""
        resolve_columns(source, self.modality, self.input)  # before the labels are read
        truth = read_targets(source, self.label, self.task)
        said = PredictionColumns(self.task)
        with self.checked_rows(source, options) as data:
            found = list(self._outputs(data, options))
            tables = [prediction_table(one, said, truth=truth[one.rows], errors=data.errors) for one in found]
            hashes = data.samples.hashes[data.usable]
        self.record_look("compare", hashes, options.notify)
        return pa.concat_tables(tables), hashes

    def record_look(self, by: By, hashes: np.ndarray, notify: Callable[[str], None]) -> None:
        """Record in the run that samples of its test split were looked at, if any of these are (uint64 (N,))."""
        try:
            seen = record_samples(self.run, by, hashes)
        except CheckpointError as error:
            notify(f"this look at test rows of the run is not recorded: {error.message}")
            return
        if seen:
            notify(f"test rows of the run among these: {seen:,}; test_looks.jsonl in it records that")

    def _relabelling(self, source: Source, label: Input) -> Relabel | None:
        """Raise DataError for an unknown class whose number is another class of the run."""
        column = LabelColumn.read(source, label, task=self.spec.task)
        return known_relabelling(column, self.task, name=label, place=source.key)

    @contextmanager
    def checked_rows(self, source: Source, options: ApplyOptions) -> Iterator[CheckedRows]:
        for difference in self.trained.differences(self.compute):
            options.notify(difference)
        with super().checked_rows(source, options) as data:
            yield data


def _listing(bad: list[BadSample], source: Source) -> str:
    lines = "\n".join(f"  {source.where(sample.row)}: {sample.reason}" for sample in bad[:8])
    more = f"\n  and {len(bad) - 8:,} more" if len(bad) > 8 else ""
    return f"{len(bad):,} of {source.num_rows:,} samples cannot be used:\n{lines}{more}"
