"""Text encoders and decoders of the transformers library, pooled so that padding never leaks."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from deeptune.backbones.base import Cut, resolve_pooling
from deeptune.backbones.behaviour import meta_width, text_behaviour
from deeptune.backbones.cut import LayersCut
from deeptune.backbones.text_backbone import TextBackbone, TextBehaviour
from deeptune.backbones.text_checkpoints import TextFiles
from deeptune.backbones.unpadded import attended
from deeptune.backbones.weights import State, check_fit, read_state, renamed, require_finite, seeded
from deeptune.catalog import BackboneInfo
from deeptune.data.loading.preprocessing import TextPreprocessing
from deeptune.errors import CheckpointError, DeepTuneError, SpecError, WeightsError, first_line
from deeptune.pooling import TOKEN_POOLING, pool_tokens
from deeptune.runs.files import read_json, write_json
from deeptune.spec.run_spec import BackboneSpec

LONGEST_BY_DEFAULT = 512
_BEHAVIOUR_FILE = "probe.json"

# Buffers that older versions saved and newer ones compute.
_OLD_BUFFERS = ("position_ids", "token_type_ids", "attn.bias", "attn.masked_bias", "rotary_emb.inv_freq")


class TransformersBackbone(TextBackbone):
    """A backbone for {"input_ids", "attention_mask": int64 (B, T)}; `features` is (B, T, D).

    Pairs of texts come with "token_type_ids" where `preprocessing.token_types` says so.
    """

    config: PreTrainedConfig
    _behaviour: TextBehaviour | None = None

    @property
    def behaviour(self) -> TextBehaviour | None:
        """Return how the network takes its texts; None on the meta device, where nothing passes."""
        if self._behaviour is None and not next(self.net.parameters()).is_meta:
            self._behaviour = text_behaviour(self)
        return self._behaviour

    def find_behaviour(self) -> None:
        stored = self._behaviour is not None
        assert self.behaviour is not None
        self.width = self.behaviour.width
        if self.padding_reaches:
            self.notes.append(
                f"{self.info.name} gives a text another embedding when padding follows it: texts pass the backbone in "
                "batches of equal length, without padding"
            )
        if self.fingerprint is None and not stored:
            self._behaviour = None  # weights that a checkpoint brings may answer otherwise

    @property
    def vocabulary(self) -> int:
        """Return the number of token ids."""
        rows = _rows(self.net)
        if rows is None and isinstance(self.preprocessing, TextPreprocessing):
            rows = len(self.preprocessing.tokenizer)
        return rows or 256

    def run(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the vectors (B, T, D) of tokens, all in one pass."""
        ids = inputs["input_ids"]
        # The libraries look at a mask's values, which there are none of on the meta device.
        mask = None if ids.is_meta else attended(inputs)
        types = {"token_type_ids": inputs["token_type_ids"]} if "token_type_ids" in inputs else {}
        return self.net(input_ids=ids, attention_mask=mask, **types).last_hidden_state

    def pool(self, features: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        if self.pooling == "pooler":
            return self.net.pooler(features)
        return pool_tokens(features, self.pooling, attended(inputs))

    def blocks(self) -> list[str]:
        """Return the model's layers: of the lists as long as the configuration tells, the one with most weights."""
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
        ids = torch.randint(0, self.vocabulary, (2, length), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0
        return {"input_ids": ids, "attention_mask": mask}

    def save_config(self, folder: Path) -> None:
        """Write the configuration and the tokenizer, in the library's own files."""
        self.config.save_pretrained(folder)
        if isinstance(self.preprocessing, TextPreprocessing):
            self.preprocessing.tokenizer.save_pretrained(folder)
        if self.behaviour is not None:  # trained weights might be found on the other side of the tolerance
            write_json(folder / _BEHAVIOUR_FILE, asdict(self.behaviour))


def _saved_behaviour(config_dir: Path | None) -> TextBehaviour | None:
    """Read what `save_config` wrote; None where an older version wrote the folder."""
    if config_dir is None or not (config_dir / _BEHAVIOUR_FILE).exists():
        return None
    try:
        return TextBehaviour(**read_json(config_dir / _BEHAVIOUR_FILE))
    except TypeError as error:
        raise CheckpointError(f"{config_dir / _BEHAVIOUR_FILE} cannot be read: {error}") from error


def _rows(net: Any) -> int | None:
    """Return the rows of the network's table of tokens; None where it has none, as CANINE, which hashes characters."""
    try:
        return int(net.get_input_embeddings().num_embeddings)
    except (NotImplementedError, AttributeError):
        return None


def load(
    info: BackboneInfo, spec: BackboneSpec, *, seed: int, on_meta: bool, config_dir: Path | None, load_weights: bool
) -> TransformersBackbone:
    """Build a text row of the catalog, or `hf:NAME_OR_FOLDER`; see `load_backbone`."""
    files = TextFiles(info, spec, config_dir, load_weights)
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
        net: Any = model.get_encoder() if _has_decoder(config) else model
        if _rows(net) is None and _rows(model) is not None:
            raise ValueError("its encoder reads no tokens")

    has_pooler = isinstance(getattr(net, "pooler", None), nn.Module)
    allowed = (*TOKEN_POOLING, "pooler") if has_pooler else TOKEN_POOLING
    pooling = resolve_pooling(info, spec.pooling, info.pooling or ("last" if decoder else "mean"), allowed)

    preprocessing = None if tokenizer is None else _preprocessing(info, spec, config, net, tokenizer, files.longest)
    backbone = TransformersBackbone(info, net, width=_width(config, net), pooling=pooling, preprocessing=preprocessing)
    backbone.config = config
    backbone._behaviour = _saved_behaviour(config_dir)
    if on_meta:
        backbone.width = meta_width(backbone) or backbone.width
    return backbone


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


def _has_decoder(config: PreTrainedConfig) -> bool:
    """Say whether the architecture is an encoder and a decoder, also where the checkpoint is of the encoder alone."""
    if config.is_encoder_decoder:
        return True
    try:
        return bool(type(config)().is_encoder_decoder)
    except Exception:  # a configuration that has no defaults
        return False


def _is_decoder(config: PreTrainedConfig) -> bool:
    """Say whether attention is causal, so that only the last token has seen the whole text."""
    if _has_decoder(config):
        return False
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if getattr(config, "is_decoder", False):
        return True
    # BERT and its like are in both: they are encoders unless the configuration says otherwise.
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def _with_weights(model_class: Any, config: PreTrainedConfig, path: Path, options: dict[str, Any]) -> Any:
    """Raise an error for weights that transformers had to invent, of which it only warns.

    Of an encoder and decoder only the encoder's are needed, which a checkpoint may hold alone.
    """

    def load(state: State) -> tuple[Any, dict[str, Any]]:
        return model_class.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )

    prefix = f"{model_class.base_model_prefix}."
    state = read_state(path)
    model, report = load(state)
    needed = _needed(model, config)
    if needed <= set(report["missing_keys"]):  # not one of the names fits
        model, report = load(renamed(state, model.state_dict(), (prefix, "encoder.")))
    parts = {name for name, _ in model.named_children()}
    unexpected = [
        key
        for key in report["unexpected_keys"]
        # Heads of pretraining are not part of the model; a layer too many is a sign of another model.
        if (own := key.removeprefix(prefix)).partition(".")[0] in parts and not own.endswith(_OLD_BUFFERS)
    ]
    # A pooler that nothing reads may be missing.
    missing = [
        key
        for key in report["missing_keys"]
        if (not key.startswith("pooler.") or options.get("add_pooling_layer")) and key in needed
    ]
    shapes = [
        f"{key} {tuple(theirs)} instead of {tuple(ours)}"
        for key, theirs, ours in report["mismatched_keys"]
        if key in needed
    ]
    check_fit(str(path), missing=missing, unexpected=unexpected, shapes=shapes)
    require_finite(model.get_encoder() if _has_decoder(config) else model, str(path))
    return model


def _needed(model: nn.Module, config: PreTrainedConfig) -> set[str]:
    """Name the weights that the backbone has: all, or those of the encoder, under any name that they have."""
    net: Any = model.get_encoder() if _has_decoder(config) else model  # type: ignore[operator]
    whole = model.state_dict(keep_vars=True)
    inside = {id(tensor) for tensor in net.state_dict(keep_vars=True).values()}
    return {name for name, tensor in whole.items() if id(tensor) in inside}


def _width(config: PreTrainedConfig, net: nn.Module) -> int:
    return int(getattr(net, "config", config).hidden_size)


def _preprocessing(
    info: BackboneInfo,
    spec: BackboneSpec,
    config: PreTrainedConfig,
    net: Any,
    tokenizer: PreTrainedTokenizerBase,
    longest: int | None,
) -> TextPreprocessing:
    rows = _rows(net)
    if rows is not None and len(tokenizer) > rows:
        raise WeightsError(
            f"{info.name}: the tokenizer knows {len(tokenizer):,} tokens and the model {rows:,}; "
            "they do not belong together.",
            hint="Use the tokenizer that was saved with this model.",
        )
    limit = _positions(config, net)
    if spec.max_length == "auto":
        known = [n for n in (limit, tokenizer.model_max_length, longest, LONGEST_BY_DEFAULT) if n is not None]
        max_length = min(known)
    elif limit is not None and spec.max_length > limit:
        raise SpecError(
            f"backbone.max_length: {info.name} has positions for {limit:,} tokens, got {spec.max_length:,}.",
            hint=f"Set it to {limit} or less.",
        )
    else:
        max_length = spec.max_length
    types = _reads_token_types(tokenizer, config, net)
    return TextPreprocessing(tokenizer, int(max_length), _pad_id(tokenizer, config, rows), types)


def _reads_token_types(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, net: Any) -> bool:
    """Check whether the tokenizer gives token types and the network has a vector for more than one of them."""
    given = "token_type_ids" in tokenizer.model_input_names
    read = "token_type_ids" in inspect.signature(net.forward).parameters
    return given and read and getattr(config, "type_vocab_size", 2) > 1


def _pad_id(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, rows: int | None) -> int:
    """Return the id that fills up a batch.

    What stands under the mask is never looked at, so any will do where neither tokenizer nor configuration names one:
    GPT-2 has none.
    """
    named = (
        tokenizer.pad_token_id, getattr(config, "pad_token_id", None), tokenizer.eos_token_id, tokenizer.unk_token_id
    )  # fmt: skip
    return next((found for found in named if type(found) is int and 0 <= found < (rows or found + 1)), 0)


def _positions(config: PreTrainedConfig, net: nn.Module) -> int | None:
    """Return the number of tokens that the model has positions for; None for relative positions without a limit."""
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
    """Tell a configuration that no model can be built from as one error: a size below 0, an unknown activation."""
    try:
        yield
    except DeepTuneError:
        raise
    except Exception as error:
        raise WeightsError(
            f"backbone.name: {info.source!r} cannot be built from its configuration ({first_line(error, 200)})."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the library's load report and progress bar: what matters of them is an error here."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
