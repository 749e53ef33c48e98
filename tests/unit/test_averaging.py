"""The moving average of the weights: against PyTorch's own, in the place of the weights, and in the train state."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from deeptune.engine.averaging import DECAY, WeightAverage
from deeptune.engine.loaders import split_loader
from deeptune.engine.loop import Hooks, fit
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.prepare import make_criterion, prepare
from deeptune.spec.toml import validate


def changed(tensors: list[torch.Tensor], step: int) -> None:
    for tensor in tensors:
        tensor.data.add_(torch.full_like(tensor, float(step % 3 - 1)))


def test_it_is_the_average_of_pytorch_with_a_decay_that_rises():
    net = nn.Linear(4, 3)
    theirs = AveragedModel(
        net, avg_fn=lambda average, now, count: torch.lerp(now, average, min(0.9, (1 + count) / (10 + count)))
    )
    theirs.update_parameters(net)  # the first call copies
    ours = WeightAverage(list(net.parameters()), 0.9)
    for step in range(200):
        changed(ours.tensors, step)
        ours.update()
        theirs.update_parameters(net)
    for found, expected in zip(ours.average, theirs.module.parameters(), strict=True):
        torch.testing.assert_close(found, expected.data)


def test_the_weights_are_themselves_again_after_the_block():
    tensors = [torch.randn(3), torch.randn(2, 2)]
    average, before = WeightAverage(tensors), [tensor.clone() for tensor in tensors]
    average.average[0].zero_()
    with average.in_place():
        assert not tensors[0].any()
    assert all(torch.equal(one, other) for one, other in zip(tensors, before, strict=True))


def test_a_stored_average_continues_bit_by_bit():
    one = WeightAverage([torch.randn(5)])
    for step in range(7):
        changed(one.tensors, step)
        one.update()
    other = WeightAverage([one.tensors[0].clone()])
    other.load_state_dict(one.state_dict())
    for average in (one, other):
        changed(average.tensors, 8)
        average.update()
    assert torch.equal(one.average[0], other.average[0])


def test_an_epoch_is_scored_with_the_average_of_its_steps(image_file):
    spec = validate(
        {
            "data": {"path": str(image_file())},
            "backbone": {"name": "timm:test_resnet", "weights": "random", "image_size": 32},
            "tuning": {"method": "full"},
            "train": {"device": "cpu", "workers": 0, "batch_size": 4, "epochs": 1, "average": "ema"},
        }
    )
    ready = prepare(spec)
    weight, seen, scored = ready.model.head.last_layer.weight, [], []

    def validate_epoch():
        scored.append(weight.detach().clone())
        return {"loss": 1.0, "tempered_loss": 1.0, "macro_f1": 1.0}

    seen.append(weight.detach().clone())
    fit(
        Learner(ready.model, make_criterion(ready), ready.compute),
        ready.spec.train,
        split_loader(ready, "train", shuffle=True),
        Hooks(check=lambda: seen.append(weight.detach().clone()), validate=validate_epoch),
    )
    expected = seen[0]
    for step, now in enumerate(seen[1:], 1):
        kept = min(DECAY, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * now
    assert len(seen) > 2
    torch.testing.assert_close(scored[0], expected)
    assert torch.equal(weight, seen[-1])


def test_an_average_of_channels_last_weights_is_stored_as_files_hold_it():
    weight = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    average = WeightAverage([weight])
    assert average.state_dict().tensors["average.0"].is_contiguous()
    average.load_state_dict(average.state_dict())
    assert average.average[0].is_contiguous(memory_format=torch.channels_last)
