"""The libraries that decide what a model gives, and what to say when they are others than at training."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata

from deeptune import __version__
from deeptune.catalog import TIMM_LOADER, BackboneInfo
from deeptune.spec.modalities import MODALITIES

PACKAGES = (
    "torch", "torchvision", "transformers", "tokenizers", "timm", "peft", "pillow", "pyarrow", "numpy", "scikit-learn",
)  # fmt: skip

version = cache(metadata.version)  # each checkpoint asks for all, and to parse the descriptions takes 5 ms


def versions() -> dict[str, str]:
    """Return the versions of DeepTune, Python and the libraries that a run uses, by name."""
    return {
        "deeptune": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def that_matter(info: BackboneInfo) -> tuple[str, ...]:
    """Return the libraries that decide what a backbone gives for a sample."""
    found: dict[str, None] = {}
    for member in info.members:
        unused = "torchvision" if member.loader == TIMM_LOADER else "timm"
        found |= dict.fromkeys(name for name in MODALITIES[member.modality].packages if name != unused)
    return tuple(found)


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Find which of the versions of `now` are others than `then`, in words; empty when none is known to be."""
    return "; ".join(
        f"{name} {then[name]} then, {now[name]} now" for name in now if then.get(name, now[name]) != now[name]
    )
