"""A map over its image."""

from __future__ import annotations

import numpy as np
from PIL import Image

from deeptune.explain.explanations import Explanation

OPACITY = 0.65  # opacity of a map where it is strongest


def overlay(explanation: Explanation) -> Image.Image:
    """Return the image with its map over it: the more a place supports the output, the brighter and yellower."""
    from matplotlib import colormaps

    assert explanation.pixels is not None
    assert explanation.map is not None
    strength = np.clip(explanation.map, 0, None)
    strength = strength / max(float(strength.max()), 1e-12)
    colours = colormaps["inferno"](strength)[..., :3] * 255
    share = (OPACITY * strength)[..., None]
    grey = explanation.pixels.mean(axis=2, keepdims=True).repeat(3, axis=2)
    return Image.fromarray(((1 - share) * grey + share * colours).round().astype(np.uint8))


def beside(explanation: Explanation) -> Image.Image:
    """Return the image as the model sees it, and the overlay to its right."""
    assert explanation.pixels is not None
    left, right = Image.fromarray(explanation.pixels), overlay(explanation)
    both = Image.new("RGB", (left.width + right.width + 4, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + 4, 0))
    return both
