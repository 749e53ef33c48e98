"""Configuration, tokenizer and weights of a text backbone: the folder or repository that each comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, BertConfig, GPT2Config, PreTrainedConfig, PreTrainedTokenizerBase

from deeptune.backbones.weights import refuse_adapter
from deeptune.catalog import WEIGHT_FILES, BackboneInfo
from deeptune.errors import WeightsError, first_line
from deeptune.fetching.hub import has_tokenizer, hub_folder
from deeptune.fetching.hub_files import SENTENCE_SETTINGS
from deeptune.spec.run_spec import BackboneSpec

_MAX_LAYERS = 1_000

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


class TextFiles:
    """The files that configuration, tokenizer and weights come from.

    A saved folder comes first, then the given weights' own folder, then the backbone's name.
    """

    def __init__(self, info: BackboneInfo, spec: BackboneSpec, config_dir: Path | None, load_weights: bool) -> None:
        self.info = info
        self.pretrained = load_weights and spec.weights == "pretrained"
        self.path = None if spec.weights in ("pretrained", "random") else Path(spec.weights).expanduser()
        given = self.path if self.path is None or self.path.is_dir() else self.path.parent
        source = Path(info.source).expanduser()
        self.local = [folder for folder in (config_dir, given) if folder is not None]
        self.longest: int | None = None  # tokens, where a sentence encoder's own settings say so
        self.source = source if source.is_dir() else None

    def _find(self, present: Any) -> Path | None:
        return next((folder for folder in [*self.local, *filter(None, [self.source])] if present(folder)), None)

    def _hub(self, **wanted: Any) -> Path:
        if self.source is not None or self.info.source.startswith((".", "/", "~")):
            if self.source is not None:
                refuse_adapter(self.source)
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
                    f"{folder / 'config.json'}: cannot be read as a transformers configuration "
                    f"({first_line(error, 200)})."
                ) from error
            if (layers := getattr(config, "num_hidden_layers", 0)) > _MAX_LAYERS:
                raise WeightsError(f"{folder / 'config.json'}: claims {layers:,} layers; the limit is {_MAX_LAYERS:,}.")
        if (
            getattr(config, "attention_type", None) == "block_sparse"
        ):  # BigBird: of random blocks, and of long texts only
            config.attention_type = "original_full"
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
            raise WeightsError(f"{folder}: its tokenizer cannot be read ({first_line(error, 200)}).") from error
        if not isinstance(tokenizer.model_max_length, int) or tokenizer.model_max_length < 1:
            raise WeightsError(f"{folder}: its tokenizer's model_max_length is not a number of tokens.")
        tokenizer.padding_side = "right"
        self.longest = _sentence_length(folder)
        return tokenizer

    def weights(self) -> Path:
        if self.path is not None:
            return self.path
        return self.source or self._hub(tokenizer=not self._find(has_tokenizer))


def _sentence_length(folder: Path) -> int | None:
    """Return the longest text of a sentence encoder, in tokens: its own setting, in a file beside its tokenizer."""
    try:
        found = json.loads((folder / SENTENCE_SETTINGS).read_text(encoding="utf-8"))["max_seq_length"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if type(found) is int and found > 0 else None
