"""Checks that a model read back from the disk is the one that was trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deeptune.data.loading.loader import Batch
from deeptune.engine.device import Compute
from deeptune.engine.micro_batch import MicroBatcher, each_micro_batch
from deeptune.errors import CheckpointError
from deeptune.model.build import TunedModel

# Share of the largest logit that two passes may differ by where a device gives other last digits in each pass.
TOLERANCE = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 4e-2}


def require_same(
    trained: TunedModel, stored: TunedModel, logits: Callable[[TunedModel], Tensor], *, precision: str, place: str
) -> tuple[Tensor, str | None]:
    """Compare the tensors that training changed, then what both models make of a few rows, bit by bit.

    If the model's own logits differ between two passes, as on some GPUs, compare within a tolerance; a sentence then
    says so. Returns the logits (rows, outputs) of the stored model and that sentence. Raises
    CheckpointError when the models differ.
    """
    expected_state, found_state = trained.tuned_state(), stored.tuned_state()
    names = sorted(expected_state.keys() | found_state.keys())
    other = [name for name in names if not _same_bits(expected_state.get(name), found_state.get(name))]
    if other:
        raise _refused(place, f"{len(other)} of {len(names)} tensors differ, {other[0]!r} first")
    expected, found = logits(trained), logits(stored)
    if torch.equal(expected, found):
        return found, None
    difference, rows = _difference(expected, found), len(expected)
    own = _difference(expected, logits(trained))
    allowed = TOLERANCE[precision] * max(1.0, expected.float().abs().max().item())
    if own == 0 or not difference <= allowed:  # NaN is not within it
        raise _refused(place, f"the logits of {rows} rows differ by up to {difference:.3g}")
    return found, (
        f"on this device two passes of one model differ: its logits of {rows} rows by up to {own:.2g}. The tensors of "
        f"the stored model are those that were trained, bit for bit; its logits differ by up to {difference:.2g}"
    )


def logits_in_parts(inputs: dict[str, Tensor], compute: Compute, limit: MicroBatcher) -> Callable[[TunedModel], Tensor]:
    """Return a function that gives a model's logits (rows, outputs) of some rows, in the parts that fit into memory."""
    count = len(next(iter(inputs.values())))
    batch = Batch(inputs, None, torch.arange(count))

    def logits(model: TunedModel) -> Tensor:
        was_training = model.training
        model.eval()
        with torch.inference_mode(), compute.autocast():
            parts = [found for _, found in each_micro_batch([batch], lambda piece: model(piece.inputs), limit)]
        model.train(was_training)
        return torch.cat(parts)

    return logits


def _same_bits(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    flat = (tensor.detach().contiguous().view(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(*flat)


def _difference(one: Tensor, other: Tensor) -> float:
    return (one.float() - other.float()).abs().max().item()


def _refused(place: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"the stored model is not the trained one: after loading {place} {what}",
        hint="The run stops rather than report weights that are not its own. Resume it; if this happens again, "
        "`deeptune doctor --report RUN` writes a report of the fault.",
    )
