"""The files of a repository on the Hugging Face hub that a backbone needs, and its licence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deeptune.catalog import index_shards, weight_file

SENTENCE_SETTINGS = "sentence_bert_config.json"
MODEL_CARD = "README.md"
# A vocabulary is the last to be fetched, so that a cache that has one has the rest too.
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", SENTENCE_SETTINGS)
VOCABULARIES = (
    "merges.txt", "bpe.codes", "vocab.txt", "vocab.json", "vocab-src.json", "vocab-tgt.json", "spiece.model",
    "spm.model", "sentencepiece.bpe.model", "sentencepiece.model", "source.spm", "target.spm", "prophetnet.tokenizer",
    "tokenizer.model", "tekken.json", "tokenizer.json",
)  # fmt: skip


def needed_files(snapshot: Path) -> list[Path]:
    """List the files of a cached snapshot that a backbone is built from, its model card included."""
    small = ("config.json", *TOKENIZER_SETTINGS, *VOCABULARIES, MODEL_CARD)
    return [file for name in small if (file := snapshot / name).is_file()] + list(_weights(snapshot))


def _weights(snapshot: Path) -> Iterator[Path]:
    """Yield the files of the preferred form of weights; an index comes with those that it names."""
    if file := weight_file(snapshot):
        yield file
        yield from index_shards(file) if file.suffix == ".json" else ()


def licence_in(card: Path) -> str | None:
    """Return the licence that a model card names in its front matter, such as `apache-2.0`."""
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*[\"']?([\w.\-]+)", front.group(1), re.MULTILINE) if front else None
    return found.group(1) if found else None
