"""Estimates of parameters, steps and memory, from the spec and the catalog, before anything is built."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from deeptune.catalog import BackboneInfo
from deeptune.spec.defaults import (
    CPU_TOKENS,
    MAX_EPOCHS,
    Recipe,
    average,
    batch_size,
    epochs,
    recipe,
    soup_size,
)
from deeptune.spec.modalities import MODALITIES
from deeptune.spec.optimizers import OPTIMIZERS
from deeptune.spec.run_spec import BackboneSpec, HeadSpec, RunSpec, TextBackboneSpec, TuningSpec
from deeptune.spec.tasks import TASKS

_TRANSFORMER_BYTES = 34  # bytes of a layer's activations for each token and unit of width, at 16 bits
_FROZEN_SHARE = 0.1  # share of the activations of a backward pass that a pass without one has in memory
_FROZEN_BATCH = {"cpu": 32, "gpu": 256}  # rows that a frozen backbone is given at once
_CUDA_CONTEXT = 600_000_000  # bytes of CUDA's kernels and of the workspaces of cuBLAS and cuDNN, as a rule of thumb


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters; None where they are known only once the model is built."""

    trainable: int | None
    total: int | None


def head_parameters(head: HeadSpec, width: int, outputs: int, *, ordered: bool = False) -> int:
    """Count the parameters of a head on features of `width` with `outputs` logits.

    An `ordered` one has a single score in its last layer, and a threshold for each output.
    """
    first = 0
    if head.layers != 1:
        first, width = (width + 1) * head.embedding_size, head.embedding_size
    return first + width * (1 if ordered else outputs) + outputs


def adapter_parameters(tuning: TuningSpec, info: BackboneInfo) -> int | None:
    """Count the parameters of the low-rank adapters; None for targets other than the catalog's."""
    lora = tuning.lora
    if info.lora_per_rank is None or info.lora_outputs is None or lora.targets != "auto":
        return None
    rank = info.lora_rank if lora.rank == "auto" else lora.rank
    return rank * info.lora_per_rank + (info.lora_outputs if lora.variant == "dora" else 0)


def count_parameters(spec: RunSpec, info: BackboneInfo, outputs: int) -> Counts:
    """Count the parameters that learn and all parameters, as the built model counts them.

    `outputs` is the number of logits, as the task counts them. The counts are unknown for models outside the catalog,
    VGG and BERT with a pooling other than their own, and other LoRA targets. With blocks that learn beside the head,
    only the total is known.
    """
    backbone = _backbone_parameters(spec, info)
    if backbone is None or info.width is None:
        return Counts(None, None)
    head = head_parameters(spec.head, info.width, outputs, ordered=TASKS[spec.task].ordered)
    if spec.tuning.method == "full":
        return Counts(backbone + head, backbone + head)
    if spec.tuning.frozen:
        return Counts(head, backbone + head)
    if spec.tuning.unfreeze:
        return Counts(None, backbone + head)
    adapters = adapter_parameters(spec.tuning, info)
    if adapters is None:
        return Counts(None, None)
    return Counts(adapters + head, backbone + adapters + head)


def _backbone_parameters(spec: RunSpec, info: BackboneInfo) -> int | None:
    """Return the catalog's number, of two backbones their sum; None where one is not known."""
    counts = [_parameters_of(*one) for one in zip(spec.backbone.members.values(), info.members, strict=False)]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _parameters_of(part: BackboneSpec | TextBackboneSpec, info: BackboneInfo) -> int | None:
    """Return the catalog's number. A ViT has a position for each patch, so its number depends on the image size."""
    pooling, size = part.pooling, _image_size(part)
    if pooling not in ("auto", info.pooling) and ("fc" in (pooling, info.pooling) or pooling == "pooler"):
        return None  # these layers come or go with the pooling
    if info.parameters is None or info.patch is None or size == "auto":
        return info.parameters
    assert info.width is not None
    assert info.input_size is not None
    return info.parameters + info.width * ((size // info.patch) ** 2 - (info.input_size // info.patch) ** 2)


def _image_size(part: BackboneSpec | TextBackboneSpec) -> int | Literal["auto"]:
    return part.image_size if isinstance(part, BackboneSpec) else "auto"


def known_recipe(spec: RunSpec, info: BackboneInfo) -> Recipe | None:
    """Return the recipe behind `"auto"` in `train`; None if the kind of backbone is known only once it is built."""
    if info.parameters is None and not spec.tuning.frozen:
        return None
    return recipe(spec, cnn=info.is_cnn)


def count_steps(spec: RunSpec, info: BackboneInfo, rows: int) -> int | None:
    """Count the optimizer steps of all epochs over `rows` training rows, without early stopping; None if unknown."""
    auto = known_recipe(spec, info)
    passes, size = spec.train.epochs, spec.train.batch_size
    if auto is not None:
        passes = epochs(spec, auto, rows) if passes == "auto" else passes
        size = batch_size(spec, info, auto, rows) if size == "auto" else size
    if passes == "auto" or size == "auto":
        return None
    return math.ceil(max(1, batch_count(rows, size)) / spec.train.accumulation) * passes


def batch_count(rows: int, size: int) -> int:
    """Count the batches of a training epoch over `rows` rows.

    A last batch of one row joins the batch before it: batch normalisation needs two rows for a variance.
    """
    return math.ceil(rows / size) - (rows > size and (rows - 1) % size == 0)


@dataclass(frozen=True)
class Memory:
    """Bytes on the device during a run.

    `exact` is weights, gradients and optimizer states in fp32. `activations` is an estimate. `copies` are the weights
    that autocast keeps in 16 bits until the backward pass. `verification` is what there is while the stored model is
    compared with the trained one: two models and the optimizer. `context` is what CUDA itself takes, and `soup` the
    weights of the best epochs.
    """

    exact: int
    activations: int
    copies: int = 0
    verification: int = 0
    context: int = 0
    soup: int = 0

    @property
    def total(self) -> int:
        return self.context + self.soup + max(self.exact + self.copies + self.activations, self.verification)


def estimate_memory(
    spec: RunSpec, info: BackboneInfo, outputs: int, *, on_gpu: bool, tokens: int = 512
) -> Memory | None:
    """Estimate the memory of training; None if unknown. `tokens` is the length of the longest text.

    Activations of images are those that PyTorch keeps at the catalog's input size, in proportion to the pixels. Those
    of texts are a transformer's layers (Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198, without attention
    scores). A frozen backbone keeps none, and its features are computed in batches of their own.
    """
    counts, auto = count_parameters(spec, info, outputs), known_recipe(spec, info)
    if counts.trainable is None or counts.total is None or auto is None:
        return None
    states = OPTIMIZERS[spec.train.optimizer].state_bytes * counts.trainable
    exact = 4 * counts.total + 4 * counts.trainable + states
    batch = auto.batch_size if spec.train.batch_size == "auto" else spec.train.batch_size
    passes = MAX_EPOCHS if spec.train.epochs == "auto" else spec.train.epochs  # as many as few rows have
    share = 1.0
    if spec.tuning.frozen and spec.train.augmentation == "none":
        batch, share = _FROZEN_BATCH["gpu" if on_gpu else "cpu"], _FROZEN_SHARE
    half = on_gpu and spec.train.precision != "fp32"
    limit = spec.backbone.of_texts[1].max_length
    length = min(tokens, 512 if limit == "auto" else limit)
    if MODALITIES[info.modality].counts_tokens:
        budget = spec.train.token_budget
        budget = budget if budget != "auto" else 0 if on_gpu else CPU_TOKENS
        batch = min(batch, max(1, budget // length)) if budget else batch
    members = zip(spec.backbone.members.values(), info.members, strict=False)
    each = sum(_activations(part, row, length) for part, row in members) * share * (0.5 if half else 1.0)
    return Memory(
        exact,
        int(batch * each),
        copies=2 * counts.total if half and not spec.tuning.frozen else 0,
        verification=2 * 4 * counts.total + states,
        context=_CUDA_CONTEXT if on_gpu else 0,
        # Beside a GPU they are in the memory of the machine.
        soup=0 if on_gpu or average(spec, val_rows=1) != "soup" else soup_size(passes) * 4 * counts.trainable,
    )


def _activations(part: BackboneSpec | TextBackboneSpec, info: BackboneInfo, length: int) -> float:
    """Estimate the bytes that a sample of `length` tokens keeps for the backward pass, in fp32."""
    if info.activation_mb is not None and info.input_size is not None:
        asked = _image_size(part)
        size = info.input_size if asked == "auto" else asked
        return info.activation_mb * 1e6 * (size / info.input_size) ** 2
    assert info.lora_outputs is not None  # nine widths in each layer of BERT and GPT-2
    return 2 * _TRANSFORMER_BYTES * length * info.lora_outputs / 9
