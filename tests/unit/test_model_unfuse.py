from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from deeptune.model.unfuse import SelfAttention, WindowAttention, unfuse_attention


def both(fused: nn.Module) -> tuple[nn.Module, nn.Module]:
    other = copy.deepcopy(fused)
    assert unfuse_attention(other) > 0
    return fused, other


def compare(fused: nn.Module, other: nn.Module, size: tuple[int, ...], mode: bool) -> None:
    """Outputs and the gradients of every parameter, those inside the attention under their new names."""
    fused.train(mode)
    other.train(mode)
    x = torch.randn(size)
    left, right = fused(x), other(x)
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(left)
    (left * direction).sum().backward()
    (right * direction).sum().backward()
    found = dict(other.named_parameters())
    for name, parameter in fused.named_parameters():
        name = (
            name.replace("in_proj_weight", "qkv.weight").replace("in_proj_bias", "qkv.bias").replace("out_proj", "proj")
        )
        assert parameter.grad is not None
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(found.pop(name).grad, parameter.grad, rtol=1e-4, atol=1e-5 * max(scale, 1))
    assert not found


@pytest.mark.parametrize("mode", [False, True])
def test_vit_is_unchanged(mode: bool) -> None:
    torch.manual_seed(0)
    net = VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=5
    )
    nn.init.normal_(net.heads.head.weight)
    compare(*both(net), (2, 3, 32, 32), mode)


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("size", [(56, 56), (64, 40), (28, 28), (23, 37)])
def test_swin_is_unchanged_with_shift_padding_and_one_window(mode: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = SwinTransformer([4, 4], 16, [2, 2], [2, 4], [7, 7], stochastic_depth_prob=0.0, num_classes=5)
    compare(*both(net), (2, 3, *size), mode)


@pytest.mark.parametrize("shift", [[0, 0], [3, 3], [3, 0], [0, 2]])
@pytest.mark.parametrize("size", [(21, 14), (14, 7), (10, 16)])
def test_window_attention_is_torchvisions_for_every_shift(shift: list[int], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    fused = nn.Sequential(ShiftedWindowAttention(16, [7, 7], shift, 4))
    nn.init.normal_(fused[0].relative_position_bias_table)
    compare(*both(fused), (2, *size, 16), True)


def test_parameters_are_shared_and_not_copied() -> None:
    for build, kind, inner in (
        (models.vit_b_32, SelfAttention, "in_proj_weight"),
        (models.swin_t, WindowAttention, "qkv.weight"),
    ):
        with torch.device("meta"):
            net = build()
        count = sum(p.numel() for p in net.parameters())
        first = next(p for name, p in net.named_parameters() if name.endswith(inner))
        assert unfuse_attention(net) == sum(isinstance(m, kind) for m in net.modules()) == 12
        assert next(m for m in net.modules() if isinstance(m, kind)).qkv.weight is first
        assert sum(p.numel() for p in net.parameters()) == count


def test_dropout_of_attention_stays_active_in_train_mode() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True)).train()
    x = torch.randn(1, 6, 16)
    assert not torch.equal(attention(x, x, x)[0], attention(x, x, x)[0])
    attention.eval()
    assert torch.equal(attention(x, x, x)[0], attention(x, x, x)[0])
