"""Use a finished run, or a plain backbone, on other files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from deeptune.backbones import load_backbone
from deeptune.backbones.base import Backbone
from deeptune.catalog import find
from deeptune.data.entries import Cache
from deeptune.data.labels import NumberLabels
from deeptune.data.loader import make_loader
from deeptune.data.plan import BadSample, read_targets, resolve_columns
from deeptune.data.samples import open_samples
from deeptune.data.source import Source
from deeptune.engine import evaluate
from deeptune.engine.device import Compute, choose_compute
from deeptune.engine.evaluate import Outputs, Progress
from deeptune.engine.memory import RowLimit
from deeptune.engine.optim import Criterion
from deeptune.engine.restore import TrainedRun, load_run
from deeptune.engine.tables import embedding_table, prediction_table
from deeptune.errors import DataError
from deeptune.runs import RunDirectory
from deeptune.spec.model import BackboneSpec


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
        return self.backbone(inputs)


@dataclass(frozen=True)
class Applied:
    """A model's outputs for a file: every row of the source, and why some rows have none."""

    source: Source
    input: str
    outputs: Outputs
    errors: dict[int, str]

    @property
    def rows(self) -> np.ndarray:
        return np.arange(self.source.num_rows, dtype=np.int64)


def open_run(run: RunDirectory, *, device: str = "auto") -> tuple[TrainedRun, Compute]:
    """The trained model of a run on a device. Precision is that of the CPU or GPU at hand."""
    compute = choose_compute(device)
    return load_run(run, device=compute.device), compute


def apply(
    model: evaluate.Scorer,
    backbone: Backbone,
    source: Source,
    input: str,
    modality: str,
    compute: Compute,
    *,
    batch_size: int,
    embed: bool,
    on_bad_sample: str = "skip",
    targets: np.ndarray | None = None,
    criterion: Criterion | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Applied:
    """Run every usable row of `source` through the model. `targets` (N,) go with all rows; NaN or −1 is no label.

    `tell` gets a sentence when memory runs out and fewer rows go through at once. Raises DataError for a sample that
    can't be used when `on_bad_sample` is `error`.
    """
    rows = np.arange(source.num_rows, dtype=np.int64)
    assert backbone.preprocessing is not None
    with Cache(tell) as cache:
        samples = open_samples(source, input, backbone.preprocessing, cache=cache, progress=progress)
        bad = samples.bad(rows)
        if bad and on_bad_sample == "error":
            raise DataError(
                _listing(bad, source), hint="Pass --on-bad-sample skip to leave them out, with nulls in their place."
            )
        errors = {sample.row: sample.reason for sample in bad}
        good = rows[~np.isin(rows, list(errors))] if errors else rows
        loader = make_loader(
            samples,
            good,
            targets=None if targets is None else targets[good],
            batch_size=batch_size,
            shuffle=False,
            seed=0,
            pin_memory=compute.device.type == "cuda",
            by_length=True,
        )
        outputs = evaluate.run(
            model,
            loader,
            compute,
            criterion=criterion,
            embed=embed,
            limit=RowLimit(tell),
            total=len(good),
            progress=progress,
        )
    return Applied(source, input, outputs, errors)


def _listing(bad: list[BadSample], source: Source) -> str:
    lines = "\n".join(f"  {source.where(sample.row)}: {sample.reason}" for sample in bad[:8])
    more = f"\n  and {len(bad) - 8:,} more" if len(bad) > 8 else ""
    return f"{len(bad):,} of {source.num_rows:,} samples cannot be used:\n{lines}{more}"


def apply_run(
    trained: TrainedRun,
    compute: Compute,
    data: str,
    *,
    embed: bool,
    labelled: bool,
    batch_size: int | None = None,
    on_bad_sample: str = "skip",
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Applied, np.ndarray | None]:
    """A run's model over another file with the run's own columns and preprocessing; the truth too when `labelled`."""
    source = Source.open(data, key="--data")
    spec = trained.spec
    modality, column = resolve_columns(source, spec.data.modality, spec.data.input)
    truth = criterion = targets = None
    if labelled:
        truth = read_targets(source, spec.data.label, trained.labels)
        targets = truth
        if isinstance(trained.labels, NumberLabels):
            targets = trained.labels.standardise(truth).astype(np.float32)
        if (
            spec.train.class_weights == "none"
        ):  # the weights came from the training rows: no loss rather than another one
            criterion = Criterion(str(spec.train.loss), label_smoothing=spec.train.label_smoothing)
    applied = apply(
        trained.model,
        trained.model.backbone,
        source,
        column,
        modality,
        compute,
        batch_size=batch_size or int(spec.train.batch_size),
        embed=embed,
        on_bad_sample=on_bad_sample,
        targets=targets,
        criterion=criterion,
        progress=progress,
        tell=tell,
    )
    return applied, truth


def predictions(trained: TrainedRun, applied: Applied) -> pa.Table:
    return prediction_table(applied.rows, applied.outputs, trained.labels, errors=applied.errors)


def metrics(trained: TrainedRun, applied: Applied, truth: np.ndarray) -> dict[str, Any]:
    """The metrics of the rows that could be scored."""
    if not len(applied.outputs.rows):
        raise DataError("no row of the file can be scored")
    return evaluate.score(applied.outputs, truth[applied.outputs.rows], trained.labels)


def embeddings(applied: Applied, *, label: str) -> pa.Table:
    """The embeddings of a file's rows; `label` is shown when the file has such a column."""
    present = label if label in applied.source.column_names else None
    return embedding_table(
        applied.rows, applied.outputs, applied.source, label=present, leave_out={applied.input}, errors=applied.errors
    )


def embed_with_backbone(
    backbone_spec: BackboneSpec,
    data: str,
    *,
    input: str | None,
    device: str = "auto",
    batch_size: int = 32,
    seed: int = 42,
    on_bad_sample: str = "skip",
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Applied:
    """Pass a file through a plain backbone, without any head: its embeddings are its pooled features."""
    compute = choose_compute(device)
    info = find(backbone_spec.name)
    source = Source.open(data, key="--data")
    modality, column = resolve_columns(source, info.modality, input)
    backbone = load_backbone(backbone_spec, seed=seed).to(compute.device)
    return apply(
        PooledBackbone(backbone), backbone, source, column, modality, compute,
        batch_size=batch_size, embed=True, on_bad_sample=on_bad_sample, progress=progress, tell=tell,
    )  # fmt: skip
