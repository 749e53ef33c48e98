"""Scores of tokens that say which words support an output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deeptune.data.loading.preprocessing import TextPreprocessing
from deeptune.errors import SpecError
from deeptune.explain.outputs import chosen_output
from deeptune.explain.parts import Explainable

STEPS = 32  # steps of the integral; the error is reported


def token_scores(model: Explainable, inputs: dict[str, Tensor], output: int) -> tuple[Tensor, float]:
    """Return scores float32 (T,) of the tokens of one text, and how far their sum misses the change of the output.

    Integrated gradients over the embeddings of tokens (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365), by
    captum, from a text of blank tokens of the same length. The miss is relative to the change.

    Raises SpecError for a network without a table of tokens.
    """
    from captum.attr import LayerIntegratedGradients

    layer = embedding_layer(model)
    blank = blank_inputs(model, inputs)
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}

    def forward(ids: Tensor) -> Tensor:
        whole = {"input_ids": ids, **{name: value.expand(len(ids), -1) for name, value in rest.items()}}
        logits = model.head(model.backbone(whole))
        return chosen_output(logits, torch.full((len(ids),), output, device=ids.device))

    learning = [parameter for parameter in layer.parameters() if not parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_()
    try:
        with torch.enable_grad():
            found, miss = LayerIntegratedGradients(forward, layer).attribute(
                inputs["input_ids"],
                blank["input_ids"],
                n_steps=STEPS,
                internal_batch_size=8,
                return_convergence_delta=True,
            )
    finally:
        for parameter in learning:
            parameter.requires_grad_(False)
    scores = found.detach().float().sum(-1)[0]
    change = float(scores.sum() - miss)
    return scores, abs(float(miss)) / max(abs(change), 1e-6)


def embedding_layer(model: Explainable) -> Any:
    """Return the table of tokens. Raises SpecError where there is none."""
    try:
        return model.backbone.net.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        raise SpecError(f"{model.backbone.info.name} has no table of tokens, so its texts can't be explained") from None


def blank_inputs(model: Explainable, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same with a blank token in the place of each word; tokens that frame a text stay."""
    return inputs | {"input_ids": inputs["input_ids"].where(~words(model, inputs), blank_token(model))}


def words(model: Explainable, inputs: dict[str, Tensor]) -> Tensor:
    """Find which tokens (bool (B, T)) are part of the text: no padding, and none that frames it."""
    special = torch.tensor(sorted(set(_tokenizer(model).all_special_ids)), device=inputs["input_ids"].device)
    return inputs["attention_mask"].bool() & ~torch.isin(inputs["input_ids"], special)


def blank_token(model: Explainable) -> int:
    """Return the token that says nothing: the mask, else that of an unknown word, else padding."""
    tokenizer = _tokenizer(model)
    found = (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    return int(next((token for token in found if token is not None), 0))


def token_texts(model: Explainable, inputs: dict[str, Tensor]) -> list[str]:
    """Return the tokens of one text as people read them, with the space before each that begins a word."""
    tokenizer, ids = _tokenizer(model), inputs["input_ids"][0].tolist()
    texts = []
    for piece in tokenizer.convert_ids_to_tokens(ids):
        if piece.startswith("##"):
            texts.append(piece[2:])
        elif piece[:1] in ("Ġ", "▁"):
            texts.append(" " + tokenizer.convert_tokens_to_string([piece]).strip())
        else:
            joined = tokenizer.convert_tokens_to_string([piece]) if piece.isascii() else piece
            texts.append(joined if any(mark in "".join(texts[:1]) for mark in ("Ġ", "▁")) else f" {joined.strip()}")
    return texts


def _tokenizer(model: Explainable) -> Any:
    preprocessing = model.backbone.preprocessing
    assert isinstance(preprocessing, TextPreprocessing)
    return preprocessing.tokenizer
