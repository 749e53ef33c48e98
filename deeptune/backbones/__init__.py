"""Pretrained feature extractors behind one protocol: `load_backbone` and what it returns.

The names are resolved when they are used, as the catalog reads rows of this package without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeptune.backbones.base import Backbone, ImageBackbone, ImagePreprocessing, TextPreprocessing
    from deeptune.backbones.loading import load_backbone

__all__ = ["Backbone", "ImageBackbone", "ImagePreprocessing", "TextPreprocessing", "load_backbone"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "loading" if name == "load_backbone" else "base"
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
