"""A backbone of images and one of texts as one: their pooled features stand side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from deeptune.backbones.base import Backbone, CannotCut, Cut
from deeptune.backbones.loading import load_backbone
from deeptune.catalog import BackboneInfo
from deeptune.data.loading.dataset import OF_TOKENS
from deeptune.data.loading.preprocessing import (
    ImagePreprocessing,
    ImageTextPreprocessing,
    Preprocessing,
    TextPreprocessing,
)
from deeptune.errors import DeepTuneError, SpecError
from deeptune.spec.run_spec import BackboneSpec


class JointBackbone(Backbone):
    """Two backbones for {"images": …, "input_ids": …, "attention_mask": …}.

    `net` holds both, by the names `image` and `text`. The first numbers of a vector are those of the image.
    """

    usual_format = "channels_last"

    def __init__(self, info: BackboneInfo, image: Backbone, text: Backbone) -> None:
        super().__init__(
            info,
            nn.ModuleDict({"image": image, "text": text}),
            width=image.width + text.width,
            pooling=f"{image.pooling} + {text.pooling}",
            preprocessing=_together(image.preprocessing, text.preprocessing),
        )
        self.notes = [*image.notes, *text.notes]

    @property
    def members(self) -> dict[str, Backbone]:
        return {f"{name}.net.": member for name, member in self.net.items()}

    def weights_fingerprint(self) -> str | None:
        """Fingerprint both fingerprints, as text; None where the weights of one were not loaded."""
        known = [member.fingerprint for member in self.net.values()]
        return None if None in known else f"sha256:{hashlib.sha256(' '.join(map(str, known)).encode()).hexdigest()}"

    def use_preprocessing(self, preprocessing: Preprocessing) -> None:
        assert isinstance(preprocessing, ImageTextPreprocessing)
        super().use_preprocessing(preprocessing)
        for name, member in self.net.items():
            member.use_preprocessing(getattr(preprocessing, name))

    def arrange(self, memory_format: str) -> None:
        """Lay out the weights of the images; texts have no maps."""
        self.memory_format = memory_format
        for member in self.net.values():
            member.arrange(memory_format if member.usual_format == self.usual_format else member.usual_format)

    @property
    def padding_reaches(self) -> bool:
        return any(member.padding_reaches for member in self.net.values())

    def features(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the pooled vectors side by side, (B, width): features of two kinds have no common shape before."""
        texts = {name: inputs[name] for name in OF_TOKENS if name in inputs}
        return torch.cat([self.net["image"]({"images": inputs["images"]}), self.net["text"](texts)], dim=1)

    def pool(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return features

    def blocks(self) -> list[str]:
        return []

    def last_blocks(self, count: int) -> NoReturn:
        raise SpecError(
            f"tuning.unfreeze: {self.info.name} are two backbones, whose last blocks are not one after the other.",
            hint="Set tuning.method = 'full' or 'lora' instead; tuning.lora.targets may name layers of one of them.",
        )

    def cut_at(self, blocks: list[str], place: int) -> Cut:
        raise CannotCut(f"{self.info.name} are two backbones side by side")

    def sample(self) -> dict[str, Tensor]:
        return {name: value for member in self.net.values() for name, value in member.sample().items()}

    def save_config(self, folder: Path) -> None:
        """Write what each part needs into a folder of its own."""
        for name, member in self.net.items():
            member.save_config(folder / name)


def load(
    info: BackboneInfo,
    spec: BackboneSpec,
    *,
    seed: int,
    on_meta: bool,
    config_dir: Path | None,
    load_weights: bool,
) -> JointBackbone:
    """Build both backbones as each is built alone, so that a run on one of them has the same features."""
    members: dict[str, Any] = {}
    for (key, part), row in zip(spec.members.items(), info.members, strict=True):
        folder = config_dir / row.modality if config_dir else None
        with _errors_of(key):
            members[row.modality] = load_backbone(
                part,
                seed=seed,
                device="meta" if on_meta else "cpu",
                config_dir=folder if folder and folder.is_dir() else None,
                load_weights=load_weights,
            )
    return JointBackbone(info, **members)


@contextmanager
def _errors_of(key: str) -> Iterator[None]:
    """Name the section of the spec in errors of a backbone, which thinks that it is the only one."""
    try:
        yield
    except DeepTuneError as error:
        if error.message.startswith("backbone.") and not error.message.startswith(f"{key}."):
            error.message = error.message.replace("backbone", key, 1)
        raise


def _together(image: Preprocessing | None, text: Preprocessing | None) -> ImageTextPreprocessing | None:
    """Return both, if they are known: the tokenizer of a text backbone on the meta device may not be at hand."""
    if not isinstance(image, ImagePreprocessing) or not isinstance(text, TextPreprocessing):
        return None
    return ImageTextPreprocessing(image, text)
