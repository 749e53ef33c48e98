"""The parts of a model that are explained one at a time: its image, its text, or each of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from deeptune.backbones.base import Backbone
from deeptune.backbones.joint import JointBackbone
from deeptune.data.loading.dataset import OF_TOKENS
from deeptune.model.build import TunedModel

Kind = Literal["image", "text"]


class Explainable(Protocol):
    """A backbone and what computes logits from its pooled vectors: a whole model, or a part of one."""

    @property
    def backbone(self) -> Backbone: ...

    @property
    def head(self) -> Callable[[Tensor], Any]: ...


@dataclass(frozen=True)
class Part:
    """One backbone of a model with its inputs of one row. The other part of that row, if there is one, stays whole."""

    kind: Kind
    backbone: Backbone
    head: Callable[[Tensor], Tensor]
    inputs: dict[str, Tensor]

    @torch.inference_mode()
    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the logits (B, outputs) of B versions of this part."""
        return self.head(self.backbone(inputs))


def parts_of(model: TunedModel, inputs: dict[str, Tensor]) -> list[Part]:
    """Return the parts of a model for the inputs of one row: one, or first the image and then the text."""
    backbone = model.backbone
    if not isinstance(backbone, JointBackbone):
        return [Part("image" if "images" in inputs else "text", backbone, model.head, inputs)]
    own = {
        "image": {"images": inputs["images"]},
        "text": {name: inputs[name] for name in OF_TOKENS if name in inputs},
    }
    with torch.no_grad():
        image, text = (backbone.net[kind](own[kind]) for kind in ("image", "text"))

    def of_image(vectors: Tensor) -> Tensor:
        return model.head(torch.cat([vectors, text.expand(len(vectors), -1)], dim=1))

    def of_text(vectors: Tensor) -> Tensor:
        return model.head(torch.cat([image.expand(len(vectors), -1), vectors], dim=1))

    return [
        Part("image", backbone.net["image"], of_image, own["image"]),
        Part("text", backbone.net["text"], of_text, own["text"]),
    ]
