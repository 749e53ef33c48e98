"""Use a finished run, or a plain backbone, on other files, whatever number of rows these have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from deeptune.backbones import load_backbone
from deeptune.backbones.base import Backbone
from deeptune.catalog import find
from deeptune.data.cache import FeatureCache
from deeptune.data.caveats import size_notes
from deeptune.data.depth import Range, range_of, range_text
from deeptune.data.inputs import attach_files
from deeptune.data.kept import require_kept
from deeptune.data.labels import NumberLabels
from deeptune.data.loader import make_loader
from deeptune.data.naming import LabelColumn, Relabel, known_relabelling
from deeptune.data.plan import BadSample, read_targets, resolve_columns
from deeptune.data.samples import Samples, open_samples
from deeptune.data.source import Source
from deeptune.engine import inference
from deeptune.engine.device import Compute, choose_compute, tokens_at_once
from deeptune.engine.feature_extraction import FeatureLoader, Frozen, rows_at_once, stored_for_later
from deeptune.engine.inference import MeanLoss, Progress, Scorer
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.optimizers import Criterion
from deeptune.engine.row_order import Window, windows
from deeptune.engine.trained_model import TrainedModel, load_run
from deeptune.engine.writers import embedding_file, prediction_file
from deeptune.errors import DataError
from deeptune.runs import RunDirectory
from deeptune.spec.modalities import Input
from deeptune.spec.model import BackboneSpec

HEAD_ROWS = 512  # stored features that pass a head at once, at least


class NoOutputs(nn.Module):
    """The last layer of a model that only embeds: no logits."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_features, self.out_features = width, 0

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        return embedding[:, :0]


class PooledBackbone(nn.Module):
    """A plain backbone behind the interface of a tuned model: its embedding is its pooled features."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.last_layer = NoOutputs(backbone.width)

    def embed(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return inputs["features"] if "features" in inputs else self.backbone(inputs)


@dataclass(frozen=True)
class Way:
    """How a file is gone through. `on_bad_sample` is `skip` or `error`; `progress(done, total)` is called now and then;
    `tell` gets a sentence, as when memory runs out and fewer rows go through at once."""

    batch_size: int | None = None  # by default as in the run
    on_bad_sample: str = "skip"
    progress: Progress = lambda done, total: None
    tell: Callable[[str], None] = lambda text: None
    root: str | None = None  # where the names of files in the input column start; by default as in the run


@dataclass(frozen=True)
class CheckedFile:
    """A file whose samples were looked at: the column that goes in, and why some rows can't be used, by row."""

    source: Source
    input: Input
    errors: dict[int, str]

    @property
    def rows(self) -> np.ndarray:
        return np.arange(self.source.num_rows, dtype=np.int64)

    @property
    def usable(self) -> np.ndarray:
        return np.setdiff1d(self.rows, np.array(list(self.errors), np.int64), assume_unique=True)


@dataclass(frozen=True)
class _Opened:
    """A checked file with its samples, and the cache that holds them and takes their features."""

    file: CheckedFile
    samples: Samples
    cache: FeatureCache


def open_run(run: RunDirectory, *, device: str = "auto") -> tuple[TrainedModel, Compute]:
    """The trained model of a run on a device. Precision is that of the CPU or GPU at hand."""
    compute = choose_compute(device)
    return load_run(run, device=compute.device), compute


def predict_file(trained: TrainedModel, compute: Compute, data: str, output: Path, way: Way) -> CheckedFile:
    """Write a prediction for every row of a file, with the run's own columns and preprocessing.

    Raises DataError for a sample that can't be used when `way.on_bad_sample` is `error`; so do the others here.
    """
    with _opened_for(trained, compute, _source_for(trained, data, way), way) as opened:
        file = opened.file
        with prediction_file(output, trained.labels, errors=file.errors) as write:
            for window in _passing_run(trained, compute, opened, way):
                write(window)
    return file


def evaluate_file(trained: TrainedModel, compute: Compute, data: str, way: Way) -> tuple[CheckedFile, dict[str, Any]]:
    """The metrics of a run on the rows of a labelled file that could be scored."""
    source, spec, labels = _source_for(trained, data, way), trained.spec, trained.labels
    resolve_columns(source, spec.data.modality, spec.data.input)  # before the labels are read
    truth = read_targets(source, spec.data.label, labels)
    targets = labels.standardise(truth).astype(np.float32) if isinstance(labels, NumberLabels) else truth
    loss = None
    if spec.train.class_weights == "none":  # they came from the training rows: no loss rather than another one
        loss = MeanLoss(Criterion(str(spec.train.loss), label_smoothing=spec.train.label_smoothing))
    with _opened_for(trained, compute, source, way) as opened:
        file, found = opened.file, _passing_run(trained, compute, opened, way, targets=targets, loss=loss)
        outputs = inference.joined([window.outputs for window in found], trained.model)
    if not len(outputs):
        raise DataError("no row of the file can be scored")
    metrics = inference.score(outputs, truth[outputs.rows], labels, loss.value if loss else None)
    metrics["notes"] += size_notes("the file", truth[outputs.rows], labels)
    return file, metrics


def embed_file(trained: TrainedModel, compute: Compute, data: str, output: Path, way: Way) -> CheckedFile:
    """Write an embedding of a run's model for every row of a file; its label too when the file has such a column.

    The label has the run's value of the class with the same name. Raises DataError for an unknown class whose number is
    another class of the run.
    """
    source, columns, relabel = _source_for(trained, data, way), trained.spec.data, None
    _, input = resolve_columns(source, columns.modality, columns.input)
    label = _present(source, columns.label)
    require_kept(source, input=input, label=label)
    if label is not None:
        column = LabelColumn.read(source, label, task=trained.spec.task)
        relabel = known_relabelling(column, trained.labels, name=label, place=source.key)
    with _opened_for(trained, compute, source, way) as opened:
        found = _passing_run(trained, compute, opened, way, embed=True)
        _write_embeddings(found, opened.file, output, label, relabel)
    return opened.file


def embed_with_backbone(
    backbone_spec: BackboneSpec,
    data: str,
    output: Path,
    way: Way,
    *,
    input: Input | None,
    label: str,
    value_range: Range | None = None,
    device: str = "auto",
    seed: int = 42,
) -> CheckedFile:
    """Pass a file through a plain backbone, without any head: its embeddings are its pooled features.

    Without a `value_range` for images of more than 8 bits it is found on the rows of the file.
    """
    compute = choose_compute(device)
    source = Source.open(data, key="--data", root=way.root)
    modality, columns = resolve_columns(source, find(backbone_spec.name).modality, input)
    require_kept(source, input=columns, label=_present(source, label))
    backbone = load_backbone(backbone_spec, seed=seed).to(compute.device)
    with _opened(backbone, source, modality, columns, way, value_range or "auto") as opened:
        found = _passing(PooledBackbone(backbone), backbone, compute, opened, way, frozen=True, embed=True)
        _write_embeddings(found, opened.file, output, _present(source, label))
    return opened.file


def _write_embeddings(
    found: Iterator[Window], file: CheckedFile, output: Path, label: str | None, relabel: Relabel | None = None
) -> None:
    with embedding_file(
        output, file.source, label=label, relabel=relabel, input=file.input, errors=file.errors
    ) as write:
        for window in found:
            write(window)


def _present(source: Source, label: str) -> str | None:
    return label if label in source.column_names else None


def _source_for(trained: TrainedModel, data: str, way: Way) -> Source:
    return Source.open(data, key="--data", root=way.root or trained.spec.data.root)


def _opened_for(trained: TrainedModel, compute: Compute, source: Source, way: Way) -> AbstractContextManager[_Opened]:
    data = trained.spec.data
    for difference in trained.differences(compute):
        way.tell(difference)
    return _opened(trained.model.backbone, source, data.modality, data.input, way, trained.value_range)


@contextmanager
def _opened(
    backbone: Backbone,
    source: Source,
    modality: str | None,
    input: Input | None,
    way: Way,
    value_range: Range | Literal["auto"] | None,
) -> Iterator[_Opened]:
    """Decode or tokenise a file's samples, or find them in the cache, and list those that can't be used."""
    modality, columns = resolve_columns(source, modality, input)
    attach_files(source, modality, columns)
    for note in backbone.notes:
        way.tell(note)
    with FeatureCache(way.tell) as cache:

        def opened() -> Samples:
            assert backbone.preprocessing is not None
            return open_samples(
                source, columns, backbone.preprocessing, cache=cache, value_range=known, progress=way.progress
            )

        known = None if value_range == "auto" else value_range
        samples = opened()
        if value_range == "auto" and samples.deep:
            known = range_of(samples.deep.values())
            assert known is not None
            way.tell(f"images of more than 8 bits: {range_text(known)}, found on all rows, become grey levels 0 to 255")
            samples = opened()
        if known is not None and samples.clipped:
            rows = f"{len(samples.clipped):,} of {source.num_rows:,} rows"
            way.tell(f"{rows} have values outside of {range_text(known)}, which are clipped")
        bad = samples.bad(np.arange(source.num_rows))
        if bad and way.on_bad_sample == "error":
            raise DataError(
                _listing(bad, source), hint="Pass --on-bad-sample skip to leave them out, with nulls in their place."
            )
        file = CheckedFile(source, columns, {sample.row: sample.reason for sample in bad})
        for remark in samples.remarks(file.usable):
            way.tell(remark)
        yield _Opened(file, samples, cache)


def _listing(bad: list[BadSample], source: Source) -> str:
    lines = "\n".join(f"  {source.where(sample.row)}: {sample.reason}" for sample in bad[:8])
    more = f"\n  and {len(bad) - 8:,} more" if len(bad) > 8 else ""
    return f"{len(bad):,} of {source.num_rows:,} samples cannot be used:\n{lines}{more}"


def _passing_run(
    trained: TrainedModel,
    compute: Compute,
    opened: _Opened,
    way: Way,
    *,
    embed: bool = False,
    targets: np.ndarray | None = None,
    loss: MeanLoss | None = None,
) -> Iterator[Window]:
    model = trained.model
    way = way if way.batch_size else replace(way, batch_size=int(trained.spec.train.batch_size))
    return _passing(
        model, model.backbone, compute, opened, way, frozen=model.frozen, embed=embed, targets=targets, loss=loss
    )


def _passing(
    model: Scorer,
    backbone: Backbone,
    compute: Compute,
    opened: _Opened,
    way: Way,
    *,
    frozen: bool,
    embed: bool = False,
    targets: np.ndarray | None = None,
    loss: MeanLoss | None = None,
) -> Iterator[Window]:
    """What a model says of every row of a file. `targets`, for `loss`, are one for each.

    The features of a `frozen` backbone are read from the cache, or stored there.
    """
    file, cuda = opened.file, compute.device.type == "cuda"
    limit = MicroBatcher(way.tell, tokens=tokens_at_once(compute.device))
    rows = file.usable
    targets = None if targets is None else targets[rows]
    table = None
    if frozen:
        how = Frozen(backbone, compute, file.input, {file.source: opened.samples})
        table = stored_for_later(how, file.source, frozenset(file.errors), opened.cache, way.progress, limit)
    batches: Any
    if table is not None:
        size = max(way.batch_size or 0, HEAD_ROWS)
        batches = FeatureLoader([table], targets, rows, batch_size=size, shuffle=False, seed=0)
    else:
        batches = make_loader(
            opened.samples,
            rows,
            targets=targets,
            batch_size=way.batch_size or rows_at_once(compute.device),
            pin_memory=cuda,
            by_length=True,
            pad_multiple=8 if cuda else 1,
        )
    found = inference.outputs(
        model, batches, compute, embed=embed, loss=loss, limit=limit, total=len(rows), progress=way.progress
    )
    return windows(found, file.rows, model, embed=embed)
