"""Brings everything that a backbone is built from to this machine, without building it."""

from __future__ import annotations

import contextlib

from deeptune.catalog import TIMM_LOADER, TORCHVISION_LOADER, find, torch_hub_dir
from deeptune.fetching.download import download
from deeptune.fetching.hub_files import MODEL_CARD
from deeptune.fetching.local import LocalWeights, local_weights
from deeptune.fetching.planned import torchvision_url
from deeptune.spec.run_spec import BackboneSpec


def fetch_weights(name: str) -> LocalWeights:
    """Fetch weights, configuration and tokenizer of a backbone, unless they are here.

    The files are those that a run would fetch, by the same functions. Raises WeightsError.
    """
    info = find(name)
    if info.loader == TORCHVISION_LOADER:
        download(torchvision_url(info), torch_hub_dir() / "checkpoints" / str(info.weights_file))
    elif info.loader == TIMM_LOADER:
        from deeptune.backbones.timm import pretrained_file

        pretrained_file(info)
    else:
        from deeptune.backbones.text_checkpoints import TextFiles

        files = TextFiles(info, BackboneSpec.model_validate({"name": info.name}), None, load_weights=True)
        files.config()
        files.tokenizer(needed=True)
        files.weights()
    found = local_weights(info)
    assert found is not None, "what was fetched is in the cache"
    if found.commit is not None:
        _fetch_card(found)
        found = local_weights(info) or found
    return found


def _fetch_card(weights: LocalWeights) -> None:
    """Fetch the model card, which names the licence, where there is one."""
    from huggingface_hub import hf_hub_download

    repository = weights.path.parents[2].name.removeprefix("models--").replace("--", "/", 1)
    with contextlib.suppress(Exception):  # weights serve without it
        hf_hub_download(repository, MODEL_CARD)
