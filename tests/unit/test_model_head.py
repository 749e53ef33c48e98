from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from deeptune.model.head import Head
from deeptune.spec.model import HeadSpec

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh}


def test_one_layer_is_a_linear_layer_on_the_pooled_features() -> None:
    head = Head(HeadSpec(layers=1, dropout=0.5), width=6, outputs=3).eval()
    x = torch.randn(4, 6)
    assert torch.equal(head.embed(x), x)
    assert torch.equal(head(x), F.linear(x, head.last_layer.weight, head.last_layer.bias))
    assert sum(p.numel() for p in head.parameters()) == 6 * 3 + 3


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_two_layers_have_the_embedding_between_them(activation: str) -> None:
    spec = HeadSpec(layers=2, embedding_size=5, activation=activation, dropout=0.5)  # type: ignore[arg-type]
    head = Head(spec, width=6, outputs=3).eval()
    x = torch.randn(4, 6)
    first = head.embedding[0]
    embedding = ACTIVATIONS[activation](F.linear(x, first.weight, first.bias))
    assert torch.equal(head.embed(x), embedding)
    assert embedding.shape == (4, 5)
    assert torch.equal(head(x), head.last_layer(embedding))


def test_dropout_acts_before_the_last_layer_in_train_mode() -> None:
    head = Head(HeadSpec(layers=2, embedding_size=400, dropout=0.5), width=6, outputs=3)
    seen: list[torch.Tensor] = []
    head.last_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(4, 6)
    head.train()(x)
    head.eval()(x)
    trained, evaluated = seen
    kept = trained != 0
    assert torch.equal(trained[kept], 2 * evaluated[kept])
    assert 0.4 < 1 - kept[evaluated != 0].float().mean() < 0.6
