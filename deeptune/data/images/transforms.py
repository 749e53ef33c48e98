"""Decoded images to the square uint8 pixels that a backbone takes, changed at random while training.

torchvision takes seconds to import, and runs on texts do without it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deeptune.data.images.decode import Picture

AUGMENTATIONS = ("none", "light", "randaugment")
OVERSAMPLING = 2  # pixels along a side of a JPEG that is decoded at a fraction of its size, over those after resizing
_MAX_ELONGATION = 16


def resize_crop(
    picture: Picture,
    *,
    resize: int,
    image_size: int,
    interpolation: str = "bilinear",
    crop_mode: str = "center",
    fill: tuple[int, int, int] = (0, 0, 0),
) -> Image.Image:
    """Resize with antialiasing, then cut a square of `image_size` from the centre, with `fill` around what is smaller.

    `resize` is the new length of the shorter side (`center`), of both (`squash`), or of the longer side (`border`). The
    same pixels as those of torchvision's `ImageClassification` preset and of timm's evaluation transform on a PIL
    image, before they scale to floats; of a picture that was decoded at a fraction of its size nearly the same.
    """
    part = list(picture.size)
    if crop_mode == "squash":
        size = [resize, resize]
    elif crop_mode == "border":
        ratio = max(part) / resize
        size = [max(1, round(side / ratio)) for side in part]
    else:
        short = min(part)
        # the square needs the middle only; a strip of 1 × 60,000 would first grow to 256 × 15,360,000
        part = [min(side, _MAX_ELONGATION * short) for side in part]
        size = [resize * side // short for side in part]
    box = picture.box(*map(_middle, picture.size, part), *part)
    resized = picture.image.resize(size, Image.Resampling[interpolation.upper()], box)
    left, upper = (_middle(side, image_size) for side in size)
    if min(size) >= image_size:
        return resized.crop((left, upper, left + image_size, upper + image_size))
    square = Image.new("RGB", (image_size, image_size), fill)
    square.paste(resized, (-left, -upper))
    return square


def _middle(length: int, part: int) -> int:
    """Find where the middle part of a length begins, as torchvision rounds it; below 0 where the length is shorter."""
    return round((length - part) / 2) if length >= part else -((part - length) // 2)


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def blank_image(image_size: int) -> Tensor:
    """Return a white image, uint8 (3, S, S), in place of a sample that cannot be used."""
    return torch.full((3, image_size, image_size), 255, dtype=torch.uint8)


class Augmentation:
    """Random changes to a training image, the same for the same (seed, epoch, row) whatever process makes them.

    `light` crops at least 0.8 of the area at nearly the image's own shape and changes brightness and contrast by
    up to 0.1. `randaugment` crops at least half of the area, then applies RandAugment (Cubuk et al. 2019,
    https://arxiv.org/abs/1909.13719) with 2 operations of magnitude 9. `flip` mirrors half of the images.

    `least` is how many pixels the shorter side of a picture needs, so that the smallest crop has OVERSAMPLING times
    those of the result.
    """

    def __init__(
        self, name: str, *, image_size: int, interpolation: str = "bilinear", flip: bool = False, seed: int = 0
    ) -> None:
        if name not in AUGMENTATIONS[1:]:
            raise ValueError(f"unknown augmentation {name!r}")
        from torchvision.transforms import v2

        mode = v2.InterpolationMode(interpolation)
        light = name == "light"
        area, ratio = (0.8, 0.9) if light else (0.5, 3 / 4)
        # of the pixels along a picture's shorter side the smallest crop has this share
        self.least = math.ceil(OVERSAMPLING * image_size / math.sqrt(area * ratio))
        steps: list[torch.nn.Module] = [
            v2.RandomResizedCrop(image_size, scale=(area, 1.0), ratio=(ratio, 1 / ratio), interpolation=mode)
        ]
        if flip:
            steps.append(v2.RandomHorizontalFlip())
        steps.append(
            v2.ColorJitter(brightness=0.1, contrast=0.1)
            if light
            else v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR)
        )
        self.transform = v2.Compose(steps)
        self.seed = seed

    def __call__(self, image: Image.Image, *, epoch: int, row: int) -> Image.Image:
        """Return a square RGB image of `image_size`."""
        state = np.random.SeedSequence((self.seed, epoch, row)).generate_state(1, np.uint64)[0]
        # the CPU's generator alone, and put back after: dropout's randomness must not depend on the data
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(state) >> 1)
            return self.transform(image)
