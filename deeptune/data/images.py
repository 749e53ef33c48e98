"""Decoded images to the square uint8 pixels that a backbone takes, changed at random while training.

torchvision takes seconds to import, and runs on texts do without it.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deeptune.data.decode import MAX_PIXELS, decode_image

__all__ = ["AUGMENTATIONS", "MAX_PIXELS", "Augmentation", "blank_image", "decode_image", "resize_crop", "to_tensor"]

AUGMENTATIONS = ("none", "light", "randaugment")
_MOST_ELONGATED = 16


def resize_crop(image: Image.Image, *, resize: int, image_size: int, interpolation: str = "bilinear") -> Image.Image:
    """Resize the shorter side to `resize` with antialiasing, then cut a square of `image_size` from the centre.

    The same pixels as torchvision's `ImageClassification` preset on a PIL image, before it scales to floats.
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    short, long = sorted(image.size)
    if long > _MOST_ELONGATED * short:
        # the square needs the middle only; a strip of 1 × 60,000 would first grow to 256 × 15,360,000
        reach = _MOST_ELONGATED * short
        image = F.center_crop(image, [min(image.height, reach), min(image.width, reach)])
    mode = InterpolationMode(interpolation)
    return F.center_crop(F.resize(image, [resize], interpolation=mode, antialias=True), [image_size])


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def blank_image(image_size: int) -> Tensor:
    """White, uint8 (3, S, S): what stands in for a sample that cannot be used."""
    return torch.full((3, image_size, image_size), 255, dtype=torch.uint8)


class Augmentation:
    """Random changes to a training image, the same for the same (seed, epoch, row) whatever process makes them.

    `light` crops at least 0.8 of the area at nearly the image's own shape and changes brightness and contrast by
    up to 0.1. `randaugment` crops at least half of the area, then applies RandAugment (Cubuk et al. 2019,
    https://arxiv.org/abs/1909.13719) with 2 operations of magnitude 9. `flip` mirrors half of the images.
    """

    def __init__(
        self, name: str, *, image_size: int, interpolation: str = "bilinear", flip: bool = False, seed: int = 0
    ) -> None:
        if name not in AUGMENTATIONS[1:]:
            raise ValueError(f"unknown augmentation {name!r}")
        from torchvision.transforms import v2

        mode = v2.InterpolationMode(interpolation)
        light = name == "light"
        steps: list[torch.nn.Module] = [
            v2.RandomResizedCrop(
                image_size,
                scale=(0.8, 1.0) if light else (0.5, 1.0),
                ratio=(0.9, 1 / 0.9) if light else (3 / 4, 4 / 3),
                interpolation=mode,
            )
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
        """A square RGB image of `image_size`."""
        state = np.random.SeedSequence((self.seed, epoch, row)).generate_state(1, np.uint64)[0]
        # the CPU's generator alone, and put back after: dropout's randomness must not depend on the data
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(state) >> 1)
            return self.transform(image)
