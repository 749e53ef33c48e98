"""Mixup and CutMix: what they make of a batch, and the loss of soft targets."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from deeptune.data.loading.dataset import Batch
from deeptune.engine.loss import Criterion
from deeptune.engine.mixing import make_mix
from deeptune.errors import SpecError
from deeptune.spec.run_spec import RunSpec
from deeptune.spec.toml import validate

CLASSES = 4


def spec(**train) -> RunSpec:
    return validate(
        {
            "data": {"path": "sample:openclipart7"},
            "backbone": {"name": "resnet18"},
            "tuning": {"method": "full"},
            "train": train,
        }
    )


def batch() -> Batch:
    colours = torch.tensor([0, 80, 160, 240], dtype=torch.uint8)
    images = colours[:, None, None, None].expand(4, 3, 16, 16).contiguous()
    return Batch({"images": images}, torch.arange(4), torch.arange(4))


def test_nothing_is_mixed_by_default():
    given = batch()
    assert make_mix(spec().train, classes=CLASSES)(given) is given


def test_mixup_mixes_images_and_classes_by_the_same_share():
    torch.manual_seed(0)
    mixed = make_mix(spec(mixup=0.4).train, classes=CLASSES)(batch())
    shares = mixed.targets
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    assert 0 < float(shares[0, 0]) < 1
    colours = torch.tensor([0.0, 80, 160, 240])
    torch.testing.assert_close(mixed.inputs["images"], (shares @ colours)[:, None, None, None].expand(4, 3, 16, 16))


def test_cutmix_mixes_classes_by_the_pixels():
    torch.manual_seed(1)
    mixed = make_mix(spec(cutmix=1.0).train, classes=CLASSES)(batch())
    colours = torch.tensor([0.0, 80, 160, 240])
    pixels = torch.stack([(mixed.inputs["images"][:, 0] == colour).float().mean(dim=(1, 2)) for colour in colours], 1)
    torch.testing.assert_close(mixed.targets, pixels)
    assert 0 < float(pixels[0, 0]) < 1


def test_the_draws_are_those_of_the_stored_generator():
    mix = make_mix(spec(mixup=0.4, cutmix=1.0).train, classes=CLASSES)
    state = torch.get_rng_state()
    first = [mix(batch()).inputs["images"] for _ in range(4)]
    torch.set_rng_state(state)
    assert all(torch.equal(one, mix(batch()).inputs["images"]) for one in first)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5, 3.0])])
def test_classes_as_shares_have_the_loss_of_class_indices(weights):
    criterion = Criterion("cross_entropy", weights, 0.1)
    logits, targets = torch.randn(6, CLASSES), torch.tensor([0, 1, 2, 3, 1, 0])
    shares = F.one_hot(targets, CLASSES).float()
    torch.testing.assert_close(criterion.sum(logits, shares), criterion.sum(logits, targets))
    torch.testing.assert_close(criterion.count(shares), criterion.count(targets))


def test_the_loss_of_a_mix_is_the_mix_of_the_losses():
    criterion = Criterion("cross_entropy")
    logits, one, other = torch.randn(5, CLASSES), torch.tensor([0, 1, 2, 3, 1]), torch.tensor([3, 2, 2, 0, 0])
    mixed = 0.3 * F.one_hot(one, CLASSES) + 0.7 * F.one_hot(other, CLASSES)
    expected = 0.3 * F.cross_entropy(logits, one) + 0.7 * F.cross_entropy(logits, other)
    torch.testing.assert_close(criterion.sum(logits, mixed) / criterion.count(mixed), expected)


@pytest.mark.parametrize("key", ["mixup", "cutmix"])
@pytest.mark.parametrize(
    ("values", "reason"),
    [({"tuning": {"method": "partial"}}, "a frozen backbone"), ({"task": "regression"}, "no classes")],
)
def test_what_cannot_be_mixed_is_refused(key, values, reason):
    given = {
        "data": {"path": "sample:openclipart7"}, "backbone": {"name": "resnet18"},
        "tuning": {"method": "full"}, "train": {key: 0.2},
    }  # fmt: skip
    with pytest.raises(SpecError, match=rf"train\.{key}: .*{reason}"):
        validate({**given, **values})
