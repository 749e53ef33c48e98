"""Resizing as torchvision does it, and augmentation that depends on (seed, epoch, row) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms._presets import ImageClassification

from deeptune.data.images import Augmentation, blank_image, resize_crop, to_tensor


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 200), (201, 333), (20, 31), (64, 64), (1000, 90)])
@pytest.mark.parametrize(("resize", "image_size"), [(256, 224), (232, 224), (64, 64), (57, 40)])
def test_the_same_pixels_as_torchvision(interpolation, size, resize, image_size):
    image = noise(*size)
    mode = transforms.InterpolationMode(interpolation)
    ours = to_tensor(resize_crop(image, resize=resize, image_size=image_size, interpolation=interpolation))
    assert (ours.dtype, ours.shape) == (torch.uint8, (3, image_size, image_size))
    steps = transforms.Compose(
        [transforms.Resize(resize, mode), transforms.CenterCrop(image_size), transforms.PILToTensor()]
    )
    assert torch.equal(ours, steps(image))
    preset = ImageClassification(crop_size=image_size, resize_size=resize, interpolation=mode)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preset.mean, preset.std))
    assert torch.allclose((ours.float() / 255 - mean) / std, preset(image), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (2, 4001)])
def test_a_strip_does_not_grow_without_bound(size):
    image = noise(*size)
    seen = np.asarray(resize_crop(image, resize=64, image_size=56), float)
    assert seen.shape == (56, 56, 3)
    # the middle of the strip, along its length
    along = 0 if size[0] < size[1] else 1
    middle = np.asarray(image, float).mean(axis=1 - along)
    middle = middle[(len(middle) - 1) // 2 - 1 : (len(middle) - 1) // 2 + 3]
    assert middle.min() - 60 <= seen.mean() <= middle.max() + 60


def test_blank_is_white():
    assert blank_image(5).unique().tolist() == [255]
    assert (blank_image(5).dtype, blank_image(5).shape) == (torch.uint8, (3, 5, 5))


@pytest.mark.parametrize("name", ["light", "randaugment"])
def test_augmentation_depends_on_seed_epoch_and_row_alone(name):
    image = noise(60, 48)
    make = Augmentation(name, image_size=32, flip=True, seed=3)
    first = to_tensor(make(image, epoch=1, row=7))
    assert first.shape == (3, 32, 32)
    torch.manual_seed(99)
    make(image, epoch=5, row=5)
    assert torch.equal(first, to_tensor(make(image, epoch=1, row=7)))
    assert torch.equal(first, to_tensor(Augmentation(name, image_size=32, flip=True, seed=3)(image, epoch=1, row=7)))
    others = [make(image, epoch=1, row=8), make(image, epoch=2, row=7), make(image, epoch=7, row=1)]
    others.append(Augmentation(name, image_size=32, flip=True, seed=4)(image, epoch=1, row=7))
    assert not any(torch.equal(first, to_tensor(other)) for other in others)


@pytest.mark.parametrize("name", ["light", "randaugment"])
def test_augmentation_leaves_the_global_generator_alone(name):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Augmentation(name, image_size=16)(noise(20, 20), epoch=0, row=0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("flip", [False, True])
def test_only_flip_mirrors(flip):
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, 16:] = 200  # bright on the right
    make = Augmentation("light", image_size=32, flip=flip, seed=0)
    mirrored = 0
    for row in range(60):
        seen = np.asarray(make(Image.fromarray(half), epoch=0, row=row), int)
        mirrored += bool(seen[:, 0].mean() > seen[:, -1].mean())
    assert (15 < mirrored < 45) if flip else mirrored == 0


def test_light_is_mild():
    image = Image.new("RGB", (64, 64), (100, 100, 100))
    make = Augmentation("light", image_size=64, seed=0)
    means = [np.asarray(make(image, epoch=0, row=row)).mean() for row in range(100)]
    assert 89 <= min(means) < 95
    assert 105 < max(means) <= 111


def test_an_unknown_augmentation():
    with pytest.raises(ValueError, match="unknown augmentation 'heavy'"):
        Augmentation("heavy", image_size=8)
