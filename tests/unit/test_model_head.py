from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deeptune.model.head import Head, collapsed
from deeptune.spec.run_spec import HeadSpec

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


@pytest.mark.parametrize("layers", [1, 2])
def test_a_standardised_head_is_a_plain_one_to_everybody_else(layers: int) -> None:
    """What is stored and loaded into a head that knows nothing of the scale gives the same bits."""
    torch.manual_seed(0)
    features = 100 + torch.randn(50, 6) * torch.tensor([1e-3, 0.1, 1.0, 5.0, 0.0, 2.0])
    head = Head(HeadSpec(layers=layers), width=6, outputs=3)
    head.standardise(features)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1)
    for _ in range(5):
        F.cross_entropy(head(features), torch.arange(50) % 3).backward()
        optimizer.step()
        optimizer.zero_grad()
    state = head.state_dict()
    assert set(state) == set(Head(HeadSpec(layers=layers), width=6, outputs=3).state_dict())
    plain = Head(HeadSpec(layers=layers), width=6, outputs=3)
    plain.load_state_dict(state)
    assert torch.equal(head(features), plain(features))
    reference = [nn.Linear(6, 256), nn.ReLU(), nn.Linear(256, 3)] if layers == 2 else [nn.Linear(6, 3)]
    linear = nn.Sequential(*reference)
    linear.load_state_dict(dict(zip(linear.state_dict(), state.values(), strict=True)))
    assert torch.equal(head(features), linear(features))
    assert torch.equal(head.embed(features), plain.embed(features))


def test_a_standardised_layer_learns_what_logistic_regression_learns() -> None:
    """Features far from zero, on which a plain layer at this learning rate gets nowhere."""
    from sklearn.linear_model import LogisticRegression

    torch.manual_seed(0)
    latent = torch.randn(300, 5)
    features = 50 + latent * torch.tensor([0.5, 0.7, 1.0, 0.8, 0.6])
    labels = (latent @ torch.tensor([2.0, -1.0, 1.0, 0.5, 1.5]) > 0).long()
    reference = LogisticRegression(C=100, max_iter=5000).fit(latent.numpy(), labels.numpy())
    accuracy = {}
    for standardised in (True, False):
        head = Head(HeadSpec(), width=5, outputs=2)
        if standardised:
            head.standardise(features)
        optimizer = torch.optim.AdamW(head.parameters(), lr=0.03, weight_decay=0.0)
        for _ in range(300):
            optimizer.zero_grad()
            F.cross_entropy(head(features), labels).backward()
            optimizer.step()
        accuracy[standardised] = (head(features).argmax(1) == labels).float().mean().item()
    assert accuracy[True] > reference.score(latent.numpy(), labels.numpy()) - 0.02 > accuracy[False] + 0.1


def test_constant_features_have_a_scale_too() -> None:
    head = Head(HeadSpec(), width=3, outputs=2)
    head.standardise(torch.full((4, 3), 7.0))
    assert torch.isfinite(head(torch.full((4, 3), 7.0))).all()


@pytest.mark.parametrize(("size", "spread"), [(0.14, 1e-8), (4e-14, 4e-14), (100.0, 1e-3)])
def test_rounding_is_not_blown_up(size: float, spread: float) -> None:
    """A change of the features by a few times their rounding hardly changes what the head says."""
    torch.manual_seed(0)
    features = size + spread * torch.randn(60, 8)
    labels = torch.arange(60) % 2
    head = Head(HeadSpec(), width=8, outputs=2)
    head.standardise(features)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(head(features), labels).backward()
        optimizer.step()
    weight = head.state_dict()["last_layer.weight"]
    assert weight.abs().max() * size < 1e4
    rounded = features * (1 + 3e-7 * torch.randn_like(features))
    difference = (head(features).softmax(1) - head(rounded).softmax(1)).abs().max()
    assert difference < 0.02


@pytest.mark.parametrize(
    ("size", "spread", "told"),
    [(0.14, 1e-8, "nearly the same features"), (0.0, 4e-14, "features near zero"), (0.5, 0.2, None), (50, 0.1, None)],
)
def test_features_without_content_are_named(size: float, spread: float, told: str | None) -> None:
    torch.manual_seed(0)
    found = collapsed(size + spread * torch.randn(60, 8, dtype=torch.float64))
    assert (found is None) if told is None else (told in str(found))
