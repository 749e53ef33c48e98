"""The licences of the weights in the catalog, as their publishers state them."""

from __future__ import annotations

from deeptune.catalog import TORCHVISION_LOADER, BackboneInfo

# As SPDX identifiers; of the Hugging Face repositories, what their model cards name.
_BY_NAME = {
    "efficientnet_lite0": "Apache-2.0",
    "bert-base-multilingual-cased": "Apache-2.0",
    "bert-base-multilingual-uncased": "Apache-2.0",
    "bert-base-cased": "Apache-2.0",
    "bert-base-uncased": "Apache-2.0",
    "gpt2": "MIT",
    "gpt2-medium": "MIT",
    "gpt2-large": "MIT",
    "distilgpt2": "Apache-2.0",
}
# torchvision publishes its weights with its code; ImageNet's own terms are for research.
_TORCHVISION = "BSD-3-Clause"


def licence_of(info: BackboneInfo) -> str | None:
    """Return the licence of a backbone's pretrained weights; None where only their page tells."""
    return _TORCHVISION if info.loader == TORCHVISION_LOADER else _BY_NAME.get(info.name)
