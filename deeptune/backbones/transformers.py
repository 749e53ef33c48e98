"""Text encoders and decoders of the transformers library, pooled so that padding never leaks."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from deeptune.backbones.base import Backbone, TextPreprocessing, resolve_pooling
from deeptune.backbones.cut import Cut, LayersCut
from deeptune.backbones.hub import has_tokenizer, hub_folder
from deeptune.backbones.pooling import TOKEN_POOLING, pool_tokens
from deeptune.backbones.weights import WEIGHT_FILES, check_fit, read_state, seeded
from deeptune.catalog import BackboneInfo
from deeptune.errors import DeepTuneError, SpecError, WeightsError
from deeptune.spec.model import BackboneSpec

LONGEST_BY_DEFAULT = 512
_MOST_LAYERS = 1_000

# The architectures of the catalog, so that random weights need no network.
_CONFIGS: dict[str, dict[str, int]] = {
    "bert-base-multilingual-cased": {"vocab_size": 119_547},
    "bert-base-multilingual-uncased": {"vocab_size": 105_879},
    "bert-base-cased": {"vocab_size": 28_996},
    "bert-base-uncased": {"vocab_size": 30_522},
    "gpt2": {},
    "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    "gpt2-large": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
    "distilgpt2": {"n_layer": 6},
}
# Buffers that older versions saved and newer ones compute.
_OLD_BUFFERS = ("position_ids", "token_type_ids", "attn.bias", "attn.masked_bias", "rotary_emb.inv_freq")


class TransformersBackbone(Backbone):
    """A backbone for {"input_ids": int64 (B, T), "attention_mask": int64 (B, T)}; `features` is (B, T, D)."""

    config: PreTrainedConfig

    def features(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.net(input_ids=inputs["input_ids"], attention_mask=_mask(inputs)).last_hidden_state

    def pool(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        if self.pooling == "pooler":
            return self.net.pooler(features)
        return pool_tokens(features, self.pooling, _mask(inputs))

    def blocks(self) -> list[str]:
        """The model's layers: of the lists of as many as the configuration tells, the one that holds most weights."""
        config = getattr(self.net, "config", self.config)
        lists = [
            (sum(parameter.numel() for parameter in module.parameters()), name, len(module))
            for name, module in self.net.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == getattr(config, "num_hidden_layers", None)
        ]
        _, name, count = max(lists, default=(0, "", 0))
        return [f"{name}.{i}" for i in range(count)]

    def cut_at(self, blocks: list[str], place: int) -> Cut:
        return LayersCut(self, blocks[place], [self.net.get_submodule(name) for name in blocks[:place]])

    def sample(self) -> dict[str, Tensor]:
        length = min(8, self.preprocessing.max_length) if isinstance(self.preprocessing, TextPreprocessing) else 8
        words = self.net.get_input_embeddings().num_embeddings
        ids = torch.randint(0, words, (2, length), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0
        return {"input_ids": ids, "attention_mask": mask}

    def save_config(self, folder: Path) -> None:
        """Write the configuration and the tokenizer, in the library's own files."""
        self.config.save_pretrained(folder)
        if isinstance(self.preprocessing, TextPreprocessing):
            self.preprocessing.tokenizer.save_pretrained(folder)


def _mask(inputs: dict[str, Tensor]) -> Tensor:
    """The mask, with one token counted in a row that has none: softmax over nothing is not a number."""
    mask = inputs["attention_mask"]
    first = torch.zeros_like(mask)
    first[:, 0] = 1
    return torch.where(mask.sum(1, keepdim=True) == 0, first, mask)


def load(
    info: BackboneInfo, spec: BackboneSpec, *, seed: int, on_meta: bool, config_dir: Path | None, load_weights: bool
) -> TransformersBackbone:
    """The loader of the catalog's text rows and of `hf:NAME_OR_FOLDER`; see `load_backbone`."""
    files = _Files(info, spec, config_dir, load_weights)
    config = files.config()
    decoder = info.family == "gpt2" or _is_decoder(config)
    model_class = _model_class(info, config)
    tokenizer = files.tokenizer(needed=not on_meta)  # before the weights: it is quicker to be missing
    switch = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    options = {"add_pooling_layer": spec.pooling == "pooler"} if switch else {}

    with _quiet(), _unbuilt(info):
        if load_weights and spec.weights != "random":
            model = _with_weights(model_class, config, files.weights(), options)
        else:
            with torch.device("meta" if on_meta else "cpu"), seeded(seed):
                model = model_class._from_config(config, dtype=torch.float32, **options)
        net: Any = model.get_encoder() if config.is_encoder_decoder else model
        net.get_input_embeddings().num_embeddings  # noqa: B018  # what is no text encoder has none

    has_pooler = isinstance(getattr(net, "pooler", None), nn.Module)
    allowed = (*TOKEN_POOLING, "pooler") if has_pooler else TOKEN_POOLING
    pooling = resolve_pooling(info, spec.pooling, "last" if decoder else "mean", allowed)

    preprocessing = None if tokenizer is None else _preprocessing(info, spec, config, net, tokenizer)
    backbone = TransformersBackbone(info, net, width=_width(config, net), pooling=pooling, preprocessing=preprocessing)
    backbone.config = config
    return backbone


class _Files:
    """Where configuration, tokenizer and weights come from: a saved folder first, then the given weights' own
    folder, then the backbone's name."""

    def __init__(self, info: BackboneInfo, spec: BackboneSpec, config_dir: Path | None, load_weights: bool) -> None:
        self.info = info
        self.pretrained = load_weights and spec.weights == "pretrained"
        self.path = None if spec.weights in ("pretrained", "random") else Path(spec.weights).expanduser()
        given = self.path if self.path is None or self.path.is_dir() else self.path.parent
        source = Path(info.source).expanduser()
        self.local = [folder for folder in (config_dir, given) if folder is not None]
        self.source = source if source.is_dir() else None

    def _find(self, present: Any) -> Path | None:
        return next((folder for folder in [*self.local, *filter(None, [self.source])] if present(folder)), None)

    def _hub(self, **wanted: Any) -> Path:
        if self.source is not None or self.info.source.startswith((".", "/", "~")):
            raise WeightsError(
                f"{self.info.source}: "
                + ("this folder has no config.json or no tokenizer." if self.source else "no such folder."),
                hint="Expected a folder that `save_pretrained` of model and tokenizer wrote: config, tokenizer",
            )
        short = self.info.source.rpartition("/")[2]
        return hub_folder(self.info.source, older_names=() if self.info.family == "hf" else (short,), **wanted)

    def config(self) -> PreTrainedConfig:
        folder = self._find(lambda folder: (folder / "config.json").is_file())
        if folder is None and self.info.family != "hf" and not self.pretrained:
            kind = BertConfig if self.info.family == "bert" else GPT2Config
            config: PreTrainedConfig = kind(**_CONFIGS[self.info.name])  # type: ignore[arg-type]
        else:
            folder = folder or self._hub(weights=WEIGHT_FILES if self.pretrained else (), tokenizer=True)
            try:
                # Said outright: left out, the library asks on the terminal whether to run code of the folder.
                config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            except Exception as error:  # the library checks little: a wrong value fails wherever it is used
                raise WeightsError(
                    f"{folder / 'config.json'}: cannot be read as a transformers configuration ({_reason(error)})."
                ) from error
            if (layers := getattr(config, "num_hidden_layers", 0)) > _MOST_LAYERS:
                raise WeightsError(
                    f"{folder / 'config.json'}: claims {layers:,} layers; the limit is {_MOST_LAYERS:,}."
                )
        config._attn_implementation = None  # the library's own choice: a name in the file may be one of code to fetch
        config.use_cache = False
        return config

    def tokenizer(self, *, needed: bool) -> PreTrainedTokenizerBase | None:
        folder = self._find(has_tokenizer)
        if folder is None:
            if not needed:
                return None
            folder = self._hub(weights=(), tokenizer=True)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise WeightsError(f"{folder}: its tokenizer cannot be read ({_reason(error)}).") from error
        if not isinstance(tokenizer.model_max_length, int) or tokenizer.model_max_length < 1:
            raise WeightsError(f"{folder}: its tokenizer's model_max_length is not a number of tokens.")
        tokenizer.padding_side = "right"
        if tokenizer.pad_token is None:  # GPT-2 has none; what stands under the mask is never looked at
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token_id is None:
            raise WeightsError(
                f"{folder}: its tokenizer has no token to pad with: no pad, end-of-text or unknown token."
            )
        return tokenizer

    def weights(self) -> Path:
        if self.path is not None:
            return self.path
        return self.source or self._hub(tokenizer=not self._find(has_tokenizer))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _model_class(info: BackboneInfo, config: PreTrainedConfig) -> Any:
    try:
        model_class: Any = MODEL_MAPPING[type(config)]
    except KeyError as error:
        raise WeightsError(f"backbone.name: AutoModel does not open {info.source!r} ({config.model_type}).") from error
    if isinstance(model_class, tuple):
        model_class = model_class[0]
    if model_class.main_input_name == "pixel_values":
        raise WeightsError(
            f"backbone.name: {info.source!r} ({config.model_type}) reads images, and `hf:` names text backbones.",
            hint="Images take a catalog name or `timm:NAME`; timm has most vision models of the hub.",
        )
    if (
        model_class.main_input_name != "input_ids"
        or hasattr(config, "vision_config")
        or hasattr(config, "audio_config")
    ):
        raise WeightsError(f"backbone.name: {info.source!r} ({config.model_type}) does not read text alone.")
    return model_class


def _is_decoder(config: PreTrainedConfig) -> bool:
    """Whether attention is causal, so that only the last token has seen the whole text."""
    if config.is_encoder_decoder:
        return False
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if getattr(config, "is_decoder", False):
        return True
    # BERT and its like are in both: they are encoders unless the configuration says otherwise.
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def _with_weights(model_class: Any, config: PreTrainedConfig, path: Path, options: dict[str, Any]) -> Any:
    """transformers only warns of weights that it had to invent; here that is an error."""
    model, report = model_class.from_pretrained(
        None,
        config=config,
        state_dict=read_state(path),
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    parts = {name for name, _ in model.named_children()}
    prefix = f"{model_class.base_model_prefix}."
    unexpected = [
        key
        for key in report["unexpected_keys"]
        # Heads of pretraining are no part of the model; a layer too many is a sign of another model.
        if (own := key.removeprefix(prefix)).partition(".")[0] in parts and not own.endswith(_OLD_BUFFERS)
    ]
    # A pooler that nothing reads may be missing.
    missing = [
        key for key in report["missing_keys"] if not key.startswith("pooler.") or options.get("add_pooling_layer")
    ]
    shapes = [f"{key} {tuple(theirs)} instead of {tuple(ours)}" for key, theirs, ours in report["mismatched_keys"]]
    check_fit(str(path), missing=missing, unexpected=unexpected, shapes=shapes)
    return model


def _width(config: PreTrainedConfig, net: nn.Module) -> int:
    return int(getattr(net, "config", config).hidden_size)


def _preprocessing(
    info: BackboneInfo, spec: BackboneSpec, config: PreTrainedConfig, net: Any, tokenizer: PreTrainedTokenizerBase
) -> TextPreprocessing:
    rows = net.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise WeightsError(
            f"{info.name}: the tokenizer knows {len(tokenizer):,} tokens and the model {rows:,}; "
            "they do not belong together."
        )
    limit = _positions(config, net)
    if spec.max_length == "auto":
        known = [n for n in (limit, tokenizer.model_max_length, LONGEST_BY_DEFAULT) if n is not None]
        max_length = min(known)
    elif limit is not None and spec.max_length > limit:
        raise SpecError(
            f"backbone.max_length: {info.name} has positions for {limit:,} tokens, got {spec.max_length:,}.",
            hint=f"Set it to {limit} or less.",
        )
    else:
        max_length = spec.max_length
    pad_id = tokenizer.pad_token_id
    assert isinstance(pad_id, int)
    return TextPreprocessing(tokenizer, int(max_length), pad_id)


def _positions(config: PreTrainedConfig, net: nn.Module) -> int | None:
    """How many tokens the model has positions for; None for relative positions without a limit."""
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    for name, module in net.named_modules():
        # RoBERTa and its like count positions from after the padding index.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return limit - module.padding_idx - 1
    return limit


@contextlib.contextmanager
def _unbuilt(info: BackboneInfo) -> Iterator[None]:
    """A configuration that no model can be built from, told as one error: a size below 0, an unknown activation."""
    try:
        yield
    except DeepTuneError:
        raise
    except Exception as error:
        raise WeightsError(
            f"backbone.name: {info.source!r} cannot be built from its configuration ({_reason(error)})."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's load report and progress bar: what matters of them is an error here."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
