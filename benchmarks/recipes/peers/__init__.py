"""Other packages in the same cells, each as a newcomer would use it: a module each, imported where it runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class NotInstalled(Exception):
    """A peer's package is not here, or can't be imported; the message says what to do."""


@dataclass(frozen=True)
class Peer:
    """A peer by its name: the modalities and tasks it takes, and the package that it needs."""

    name: str
    what: str
    modalities: tuple[str, ...]
    tasks: tuple[str, ...]
    package: str
    install: str

    def module(self) -> Any:
        """Import the module that trains and predicts. Raises NotInstalled where its package can't be imported."""
        try:
            importlib.import_module(self.package)
        except ImportError as error:
            raise NotInstalled(f"{self.name} needs `{self.install}` ({error})") from error
        return importlib.import_module(f"{__name__}.{self.name}")


BOTH, ANY = ("image", "text"), ("classification", "regression")

PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("linear", "scikit-learn on the frozen features, penalty by 5-fold cross-validation", BOTH, ANY,
             "sklearn", "pip install scikit-learn"),
        Peer("trainer", "Hugging Face Trainer with its defaults", ("text",), ANY,
             "accelerate", "pip install transformers accelerate"),
        Peer("fastai_tune", "fastai's vision_learner and fine_tune(5)", ("image",), ANY,
             "fastai.vision.all", "pip install fastai"),
        Peer("setfit_pairs", "SetFit with its defaults", ("text",), ("classification",),
             "setfit", "pip install setfit"),
        Peer("autogluon_medium", "AutoGluon MultiModal, medium_quality", BOTH, ANY,
             "autogluon.multimodal", "pip install autogluon.multimodal"),
    )
}  # fmt: skip
