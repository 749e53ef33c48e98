"""Backbones cut at their blocks: both halves together are the whole, for every family."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor

from deeptune.backbones import Backbone, load_backbone
from deeptune.backbones.base import CannotCut
from deeptune.backbones.transformers import TransformersBackbone
from deeptune.catalog import BackboneInfo
from deeptune.errors import SpecError
from deeptune.spec.run_spec import BackboneSpec

LAYERS = 3
SMALL = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 32,
}  # fmt: skip
TEXT_MODELS = {
    "bert": transformers.BertConfig(**SMALL),
    "gpt2": transformers.GPT2Config(vocab_size=90, n_embd=32, n_layer=LAYERS, n_head=2, n_positions=32,
                                    bos_token_id=0, eos_token_id=0),
    "distilbert": transformers.DistilBertConfig(vocab_size=90, dim=32, n_layers=LAYERS, n_heads=2, hidden_dim=48,
                                                max_position_embeddings=32),
    "roberta": transformers.RobertaConfig(**SMALL),
    "deberta": transformers.DebertaV2Config(**SMALL, relative_attention=True, pos_att_type=["c2p", "p2c"],
                                            position_buckets=16, norm_rel_ebd="layer_norm"),
    "modernbert": transformers.ModernBertConfig(**SMALL, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                                                cls_token_id=1, sep_token_id=2, local_attention=4),
    "llama": transformers.LlamaConfig(**SMALL),
    "convbert": transformers.ConvBertConfig(**SMALL, embedding_size=32),  # whose texts pass by length
    "fnet": transformers.FNetConfig(**{name: size for name, size in SMALL.items() if name != "num_attention_heads"}),
    "t5": transformers.T5Config(vocab_size=90, d_model=32, d_kv=16, d_ff=48, num_layers=LAYERS, num_heads=2),
}  # fmt: skip
IMAGE_MODELS = [  # name, pixels, blocks
    ("resnet18", 64, 8), ("resnet50", 32, 16), ("densenet121", 32, 7), ("swin_t", 64, 12), ("efficientnet_b0", 32, 7),
    ("efficientnet_lite0", 32, 16), ("vgg11", 32, 5), ("vgg11_bn", 32, 5), ("vit_b_32", 64, 12),
    ("convnext_tiny", 32, 18),
    ("mobilenet_v3_small", 32, 11),
    ("regnet_x_400mf", 32, 22),
    ("maxvit_t", 224, 11),
    ("timm:vit_tiny_patch16_224", 32, 12), ("timm:convnext_atto", 64, 12), ("timm:resnet10t", 64, 4),
    ("timm:swin_tiny_patch4_window7_224", 64, 12), ("timm:mobilenetv3_small_050", 64, 12),
]  # fmt: skip


def image_backbone(name: str, size: int, **options: str) -> Backbone:
    return load_backbone(BackboneSpec(name=name, weights="random", image_size=size, **options))  # type: ignore[arg-type]


def text_backbone(name: str, pooling: str = "mean") -> Backbone:
    config = TEXT_MODELS[name]
    config.use_cache = False
    torch.manual_seed(0)
    net = transformers.AutoModel.from_config(config).eval()
    net = net.get_encoder() if config.is_encoder_decoder else net
    if hasattr(net, "pooler"):
        net.pooler = None
    info = BackboneInfo(name, "hf", "text", "module:load", name)
    backbone = TransformersBackbone(info, net, width=32, pooling=pooling, preprocessing=None)
    backbone.config = config
    return backbone


def images(size: int) -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(1)
    return {"images": torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=numbers)}


def texts() -> dict[str, Tensor]:
    """Three texts of 11, 6 and 1 tokens."""
    ids = torch.randint(3, 90, (3, 11), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": (torch.arange(11) < torch.tensor([[11], [6], [1]])).long()}


@pytest.mark.parametrize(("name", "size", "count"), IMAGE_MODELS)
def test_both_halves_of_an_image_backbone_are_the_whole(name: str, size: int, count: int) -> None:
    backbone, inputs = image_backbone(name, size), images(size)
    assert len(backbone.blocks()) == count
    with torch.no_grad():
        whole = backbone(inputs)
        for blocks in (1, 2, count):
            cut = backbone.last_blocks(blocks)
            assert cut.name == backbone.blocks()[-blocks]
            boundary = cut.prefix(inputs)
            assert torch.equal(backbone.pool(cut.suffix(boundary, {}), {}).float(), whole), blocks


@pytest.mark.parametrize("pooling", ["mean", "max", "cls", "last"])
@pytest.mark.parametrize("name", [name for name in TEXT_MODELS if name != "t5"])
def test_both_halves_of_a_text_backbone_are_the_whole(name: str, pooling: str) -> None:
    """Whatever stands in the boundary for padding: it is never looked at."""
    backbone, inputs = text_backbone(name, pooling), texts()
    padding = inputs["attention_mask"].unsqueeze(-1) == 0
    with torch.no_grad():
        whole = backbone(inputs)
        for blocks in range(1, LAYERS + 1):
            cut = backbone.last_blocks(blocks)
            boundary = cut.prefix(inputs)
            for filling in (0.0, 7.0):
                found = backbone.pool(cut.suffix(boundary.masked_fill(padding, filling), inputs), inputs)
                torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)
        other = backbone.pool(cut.suffix(boundary.flip(-1), inputs), inputs)
        assert not torch.allclose(other, whole, atol=1e-3)
        assert torch.equal(backbone(inputs), whole)  # and the model is as it was


def test_a_text_model_whose_layers_share_more_than_hidden_states_is_not_cut() -> None:
    """T5's first layer computes the position bias of all."""
    backbone = text_backbone("t5")
    cut = backbone.last_blocks(1)
    with pytest.raises(CannotCut, match="the layers of t5 pass on more than hidden states"):
        cut.check()
    assert all(key.startswith(("block.2.", "final_layer_norm")) for key in cut.keys)


def test_an_image_model_whose_blocks_are_given_more_than_an_image_is_not_cut() -> None:
    """Rotary positions go to each block of EVA-02; the layers of timm's DenseNet get a list."""
    for name, size in (("timm:eva02_tiny_patch14_224", 28), ("timm:densenet121", 32)):
        with pytest.raises(CannotCut):
            image_backbone(name, size).last_blocks(1).check()


@pytest.mark.parametrize(
    "backbone",
    [
        *(lambda name=name, size=size: image_backbone(name, size) for name, size, _ in IMAGE_MODELS[::4]),
        *(lambda name=name: text_backbone(name) for name in TEXT_MODELS),
    ],
)
def test_nothing_that_learns_has_a_part_in_the_boundary(backbone) -> None:
    backbone = backbone()
    inputs = backbone.sample()
    for blocks in (1, 2):
        cut = backbone.last_blocks(blocks)
        backbone.requires_grad_(False)
        learning = {name: weight for name, weight in backbone.net.named_parameters() if name in cut.keys}
        for weight in learning.values():
            weight.requires_grad_()
        assert not cut.prefix(inputs).requires_grad
        backbone(inputs).sum().backward()
        assert {name for name, weight in learning.items() if weight.grad is None} == set()
        frozen = {name for name, _ in backbone.net.named_parameters()} - learning.keys()
        assert frozen
        backbone.zero_grad()


def test_relative_positions_that_all_layers_read_stay_frozen() -> None:
    backbone = text_backbone("deberta")
    shared = {"encoder.rel_embeddings.weight", "encoder.LayerNorm.weight", "encoder.LayerNorm.bias"}
    assert not backbone.last_blocks(1).keys & shared
    assert backbone.last_blocks(LAYERS).keys >= shared


def test_what_comes_after_the_blocks_belongs_to_the_suffix() -> None:
    assert "encoder.ln.weight" in image_backbone("vit_b_32", 64).last_blocks(1).keys
    assert "encoder.pos_embedding" not in image_backbone("vit_b_32", 64).last_blocks(12).keys
    assert "features.8.0.weight" in image_backbone("efficientnet_b0", 32).last_blocks(1).keys
    assert "features.norm5.running_mean" in image_backbone("densenet121", 32).last_blocks(1).keys
    assert "classifier.0.weight" in image_backbone("vgg11", 32).last_blocks(1).keys
    assert "ln_f.weight" in text_backbone("gpt2").last_blocks(1).keys


def test_too_many_blocks_are_refused_with_their_number() -> None:
    with pytest.raises(SpecError) as error:
        load_backbone(BackboneSpec(name="resnet18"), device="meta").last_blocks(9)
    assert error.value.message == "tuning.unfreeze: resnet18 has 8 blocks, and 9 were to learn."
    assert "8 or less" in str(error.value.hint)
    with pytest.raises(SpecError, match=r"where the blocks of timm:inception_v3 begin is not known"):
        image_backbone("timm:inception_v3", 96).last_blocks(1)


def test_trying_the_halves_changes_neither_modes_nor_random_numbers() -> None:
    for backbone in (text_backbone("deberta"), image_backbone("swin_t", 64)):
        backbone.train()
        before = torch.get_rng_state()
        cut = backbone.last_blocks(1)
        cut.check()
        assert torch.equal(torch.get_rng_state(), before)
        assert all(module.training for module in backbone.modules())
