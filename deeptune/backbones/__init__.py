"""Pretrained feature extractors behind one protocol: `load_backbone` and what it returns.

The names are resolved when they are used, as the catalog reads rows of this package without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeptune.backbones.base import Backbone
    from deeptune.backbones.image_backbone import ImageBackbone
    from deeptune.backbones.loading import load_backbone
    from deeptune.data.loading.preprocessing import ImagePreprocessing, TextPreprocessing

_MODULES = {
    "Backbone": "deeptune.backbones.base",
    "ImageBackbone": "deeptune.backbones.image_backbone",
    "ImagePreprocessing": "deeptune.data.loading.preprocessing",
    "TextPreprocessing": "deeptune.data.loading.preprocessing",
    "load_backbone": "deeptune.backbones.loading",
}

__all__ = ["Backbone", "ImageBackbone", "ImagePreprocessing", "TextPreprocessing", "load_backbone"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
