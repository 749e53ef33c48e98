"""Resizing as torchvision does it, and augmentation that depends on (seed, epoch, row) alone."""

from __future__ import annotations

import io
from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms._presets import ImageClassification

from deeptune.data.images.decode import Picture, decode_quietly
from deeptune.data.images.transforms import OVERSAMPLING, Augmentation, blank_image, resize_crop, to_tensor


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size",
    [(300, 200), (201, 333), (20, 31), (64, 64), (1000, 90), (57, 57), (58, 57), (90, 1439), (3, 48), (911, 613)],
)
@pytest.mark.parametrize(("resize", "image_size"), [(256, 224), (232, 224), (64, 64), (57, 40), (57, 56), (110, 96)])
def test_the_same_pixels_as_torchvision(interpolation, size, resize, image_size):
    image = noise(*size)
    mode = transforms.InterpolationMode(interpolation)
    picture = Picture.whole(image)
    ours = to_tensor(resize_crop(picture, resize=resize, image_size=image_size, interpolation=interpolation))
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
    seen = np.asarray(resize_crop(Picture.whole(image), resize=64, image_size=56), float)
    assert seen.shape == (56, 56, 3)
    # the middle of the strip, along its length
    along = 0 if size[0] < size[1] else 1
    middle = np.asarray(image, float).mean(axis=1 - along)
    middle = middle[(len(middle) - 1) // 2 - 1 : (len(middle) - 1) // 2 + 3]
    assert middle.min() - 60 <= seen.mean() <= middle.max() + 60


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_a_strip_between_borders_keeps_a_pixel(size):
    seen = np.asarray(
        resize_crop(Picture.whole(noise(*size)), resize=64, image_size=64, crop_mode="border", fill=(9, 8, 7))
    )
    assert seen.shape == (64, 64, 3)
    assert (seen == (9, 8, 7)).all(axis=2).mean() == 63 / 64


PHOTOS = {name: resources.files("sklearn") / "datasets" / "images" / name for name in ("china.jpg", "flower.jpg")}


def jpeg(name: str, size: tuple[int, int], orientation: int = 1) -> bytes:
    """The left upper part of a photo of 640 × 427."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.open(io.BytesIO(PHOTOS[name].read_bytes())).crop((0, 0, *size)).save(stream, "JPEG", quality=90, exif=exif)
    return stream.getvalue()


def difference(
    data: bytes, *, least: int, scale: int, resize: int = 40, interpolation: str = "bilinear", crop_mode: str = "center"
) -> float:
    """Mean, in levels, over the pixels that a backbone gets of a JPEG that was decoded at 1/`scale`, and whole."""
    part, whole = (decode_quietly(data, least=one) for one in (least, None))
    assert (part.scale, whole.scale) == (scale, 1)
    how = {"resize": resize, "image_size": 36, "interpolation": interpolation, "crop_mode": crop_mode}
    seen, expected = (np.asarray(resize_crop(one, **how), int) for one in (part, whole))
    return float(np.abs(seen - expected).mean())


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("size", [(640, 424), (637, 423), (421, 423), (635, 321)])
def test_a_jpeg_at_a_fraction_of_its_size_gives_nearly_the_same_pixels(name, size, interpolation):
    data = jpeg(name, size)
    assert difference(data, least=OVERSAMPLING * 40, scale=4, interpolation=interpolation) < 1
    # with as many pixels as come out, it is the fraction that decides them
    assert difference(data, least=40, scale=8, interpolation=interpolation) > 1.2


@pytest.mark.parametrize("crop_mode", ["squash", "border"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_at_a_fraction_of_its_size_in_the_other_crop_modes(crop_mode, orientation):
    assert (
        difference(jpeg("china.jpg", (637, 421), orientation), least=OVERSAMPLING * 40, scale=4, crop_mode=crop_mode)
        < 1
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(637, 421), (421, 423)])
def test_a_turned_jpeg_at_a_fraction_of_its_size_does_not_shift(size, orientation):
    assert difference(jpeg("china.jpg", size, orientation), least=OVERSAMPLING * 40, scale=4) < 1


def test_a_long_strip_at_a_fraction_of_its_size():
    """Its shorter side decides, and the middle is cut from it as from the whole."""
    tall = np.tile(np.asarray(Image.open(io.BytesIO(jpeg("china.jpg", (421, 427))))), (17, 1, 1))
    stream = io.BytesIO()
    Image.fromarray(tall).save(stream, "JPEG", quality=90)
    assert tall.shape[0] > 16 * tall.shape[1]
    assert difference(stream.getvalue(), least=OVERSAMPLING * 40, scale=4) < 1


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


@pytest.mark.parametrize("name", ["light", "randaugment"])
@pytest.mark.parametrize("size", [(300, 300), (300, 500), (2000, 300)])
def test_the_smallest_crop_of_a_jpeg_at_a_fraction_of_its_size_has_pixels_enough(name, size):
    make = Augmentation(name, image_size=32, seed=0)
    crop = make.transform.transforms[0]
    torch.manual_seed(0)
    image = torch.empty(3, *size)
    found = [crop.make_params([image]) for _ in range(400)]
    smallest = min(min(one["height"], one["width"]) for one in found) / 300  # of the shorter side
    assert smallest * make.least >= OVERSAMPLING * 32 - make.least / 300  # a crop is rounded to whole pixels
    assert make.least <= 1.7 * OVERSAMPLING * 32


def test_an_unknown_augmentation():
    with pytest.raises(ValueError, match="unknown augmentation 'heavy'"):
        Augmentation("heavy", image_size=8)
