"""Averages of the weights, over steps and over epochs: against PyTorch's own, in their place, in the train state."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from deeptune.engine.averaging import DECAY, Soup, WeightAverage
from deeptune.engine.loaders import split_loader
from deeptune.engine.loop import Hooks, fit
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.prepare import make_criterion, prepare
from deeptune.runs.events import EpochEvent
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


def image_spec(image_file, **train):
    return validate(
        {
            "data": {"path": str(image_file())},
            "backbone": {"name": "timm:test_resnet", "weights": "random", "image_size": 32},
            "tuning": {"method": "full"},
            "train": {"device": "cpu", "workers": 0, "batch_size": 4, **train},
        }
    )


def test_an_epoch_is_scored_with_the_average_of_its_steps(image_file):
    spec = image_spec(image_file, epochs=1, average="ema")
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


def seasoned(values: list[float], tensors: list[torch.Tensor] | None = None) -> tuple[Soup, list[list[torch.Tensor]]]:
    """A soup that epochs with these losses were offered to, and the weights of each."""
    soup, weights = Soup(tensors or [torch.randn(5), torch.randn(2, 3)], operator.lt, 3), []
    for epoch, value in enumerate(values, 1):
        for tensor in soup.tensors:
            tensor.copy_(torch.randn_like(tensor))
        weights.append([tensor.clone() for tensor in soup.tensors])
        soup.offer(epoch, value)
    return soup, weights


def test_a_soup_is_the_mean_of_the_three_best_epochs_as_pytorch_averages():
    net = nn.Linear(4, 3)
    soup, weights = seasoned([0.9, 0.4, 0.8, 0.5, 0.6, 0.7], [one.data for one in net.parameters()])
    assert (soup.epochs, soup.worst) == ([2, 4, 5], 0.6)
    theirs = AveragedModel(net)
    for epoch in (2, 4, 5):
        for tensor, now in zip(net.parameters(), weights[epoch - 1], strict=True):
            tensor.data.copy_(now)
        theirs.update_parameters(net)
    with soup.in_place():
        for found, expected in zip(soup.tensors, theirs.module.parameters(), strict=True):
            torch.testing.assert_close(found, expected.data)
    assert all(torch.equal(one, other) for one, other in zip(soup.tensors, weights[4], strict=True))


def test_an_epoch_that_is_offered_again_takes_its_place():
    soup, _ = seasoned([0.9, 0.4, 0.8])
    assert soup.offer(3, 0.8)
    assert soup.epochs == [1, 2, 3]
    assert not soup.offer(4, 0.95)


def test_a_stored_soup_continues_bit_by_bit():
    one, _ = seasoned([0.9, 0.4, 0.8, 0.5])
    other = Soup([tensor.clone() for tensor in one.tensors], operator.lt, 3)
    other.load_state_dict(one.state_dict())
    for soup in (one, other):
        soup.offer(5, 0.45)
    assert other.epochs == one.epochs == [2, 4, 5]
    with one.in_place(), other.in_place():
        assert all(torch.equal(*pair) for pair in zip(one.tensors, other.tensors, strict=True))


def trained(spec, losses, start=None):
    """Train with these losses of val, in the order of the calls.

    Returns the weights of the last layer after each epoch, the models that were the best, and the history.
    """
    ready = prepare(spec)
    weight, after, best, calls = ready.model.head.last_layer.weight, [], [], iter(losses)

    def validate_epoch():
        loss = next(calls)
        return {"loss": loss, "tempered_loss": loss, "macro_f1": -loss}

    history = fit(
        Learner(ready.model, make_criterion(ready), ready.compute),
        ready.spec.train,
        split_loader(ready, "train", shuffle=True),
        Hooks(
            epoch=lambda event: after.append(weight.detach().clone()) if event.epoch else None,
            best=lambda found: best.append((found.epoch, found.value, found.mean, weight.detach().clone())),
            validate=validate_epoch,
            start=start,
        ),
    )
    return after, best, history


def test_what_is_stored_is_the_mean_of_the_best_epochs(image_file):
    spec = image_spec(image_file, epochs=5, early_stopping={"patience": 0})
    # The mean is scored after each epoch that enters it: 2, 3 and 5. Epoch 4 is worse than three others.
    after, best, history = trained(spec, [0.9, 0.8, 0.7, 0.6, 0.5, 0.95, 0.65, 0.55])
    assert [one[:3] for one in best] == [(1, 0.9, []), (2, 0.7, [1, 2]), (3, 0.5, [1, 2, 3]), (3, 0.55, [2, 3, 5])]
    torch.testing.assert_close(best[-1][3], (after[1] + after[2] + after[4]) / 3)
    assert (history.best.value, history.best.mean, history.best.trained) == (0.55, [2, 3, 5], 0.6)
    alone, _, _ = trained(image_spec(image_file, epochs=5, average="none", early_stopping={"patience": 0}), [0.9] * 5)
    assert all(torch.equal(*pair) for pair in zip(after, alone, strict=True))  # training itself is the same


def test_a_mean_that_is_worse_than_each_of_its_epochs_is_passed_over(image_file):
    spec = image_spec(image_file, epochs=5, early_stopping={"patience": 3})
    after, best, _ = trained(spec, [0.9, 0.8, 3.0, 0.85, 2.0, 0.95, 0.96])
    assert [one[:3] for one in best] == [(1, 0.9, []), (2, 0.8, [])]
    assert torch.equal(best[-1][3], after[1])


def test_no_mean_is_stored_while_no_epoch_is_better_than_the_start(image_file):
    spec = image_spec(image_file, epochs=3, early_stopping={"patience": 0})
    start = EpochEvent(0, 3, train={}, val={"loss": 0.5, "tempered_loss": 0.5})
    _, best, _ = trained(spec, [0.9, 0.8, 0.4, 0.3], start)
    assert [one[:3] for one in best] == [(0, 0.5, []), (3, 0.3, [2, 3])]


def test_patience_looks_at_epochs_alone(image_file):
    spec = image_spec(image_file, epochs=9, early_stopping={"patience": 2})
    _, _, history = trained(spec, [0.5, 0.6, 0.4, 0.7, 0.3])
    assert (history.epoch, history.stopped_early) == (4, True)


@pytest.mark.parametrize(
    ("method", "val", "expected"), [("full", 0.2, "soup"), ("full", 0.0, "none"), ("partial", 0.2, "none")]
)
def test_epochs_are_averaged_where_the_backbone_learns_and_val_ranks_them(image_file, method, val, expected):
    values = {
        "data": {"path": str(image_file()), "split": {"train": 0.7, "val": val, "test": 0.3 - val}},
        "backbone": {"name": "timm:test_resnet", "weights": "random", "image_size": 32},
        "tuning": {"method": method},
        "train": {"device": "cpu", "workers": 0},
    }
    assert prepare(validate(values)).spec.train.average == expected
