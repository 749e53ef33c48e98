from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hub import closed_port
from torch import nn
from torchvision import models

from deeptune.backbones import ImagePreprocessing, load_backbone
from deeptune.backbones.weights import fingerprint
from deeptune.catalog import CATALOG, TORCHVISION_LOADER
from deeptune.errors import SpecError, WeightsError
from deeptune.spec.run_spec import BackboneSpec

NAMES = [info.name for info in CATALOG.values() if info.loader == TORCHVISION_LOADER]
CLASSIFIER = {
    "resnet18": "fc",
    "densenet121": "classifier",
    "swin_t": "head",
    "efficientnet_b0": "classifier",
    "vit_b_32": "heads",
    "maxvit_t": "classifier.3 classifier.4 classifier.5",
    "regnet_x_400mf": "fc",
    "mobilenet_v3_small": "classifier",
    "convnext_tiny": "classifier.2",
}


def images(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def normalised(images: torch.Tensor, preprocessing: ImagePreprocessing) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return (images / 255 - mean) / std


def random(name: str, **options: object) -> BackboneSpec:
    return BackboneSpec(name=name, weights="random", **options)  # type: ignore[arg-type]


def test_vit_h_14_wants_518_pixels_and_swin_is_bicubic() -> None:
    assert load_backbone(random("vit_h_14"), device="meta").preprocessing.image_size == 518
    assert load_backbone(random("swin_t"), device="meta").preprocessing.interpolation == "bicubic"


@pytest.mark.parametrize("name", CLASSIFIER)
def test_pooled_features_are_what_the_classifier_consumes(name: str) -> None:
    size = 224 if name.startswith("maxvit") else 64
    backbone = load_backbone(random(name, image_size=size), seed=3)
    reference = models.get_model(name, weights=None, **({"image_size": size} if name.startswith("vit") else {}))
    for part in CLASSIFIER[name].split():
        reference.set_submodule(part, nn.Identity())
    reference.load_state_dict(backbone.net.state_dict())
    batch = images(size)
    with torch.no_grad():
        expected = reference.eval()(normalised(batch, backbone.preprocessing))
        found = backbone({"images": batch})
    assert found.shape == (2, CATALOG[name].width)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_vgg_keeps_its_two_wide_layers_and_can_pool_its_map() -> None:
    backbone = load_backbone(random("vgg11", image_size=32))
    reference = models.vgg11(weights=None)
    reference.load_state_dict(backbone.net.state_dict(), strict=False)
    reference.classifier[6] = nn.Identity()
    x = normalised(images(32), backbone.preprocessing)
    with torch.no_grad():
        torch.testing.assert_close(backbone({"images": images(32)}), reference.eval()(x), rtol=1e-5, atol=1e-5)
        other = load_backbone(random("vgg11", image_size=32, pooling="mean"))
        other.net.features.load_state_dict(reference.features.state_dict())
        assert other.width == 512
        torch.testing.assert_close(other({"images": images(32)}), reference.features(x).mean((2, 3)))
        assert not list(other.net.classifier.parameters())


def test_vit_can_pool_its_patches() -> None:
    backbone = load_backbone(random("vit_b_32", image_size=64, pooling="mean"))
    with torch.no_grad():
        tokens = backbone.features({"images": images(64)})
        torch.testing.assert_close(backbone({"images": images(64)}), tokens[:, 1:].mean(1))


def test_another_image_size_keeps_the_share_of_the_crop() -> None:
    backbone = load_backbone(random("resnet18", image_size=64))
    assert (backbone.preprocessing.image_size, backbone.preprocessing.resize) == (64, 73)  # 64 × 256 / 224


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_b_16", 100, "The nearest sizes are 96 or 112"),
        ("vit_b_32", 16, "The nearest sizes are 32."),
        ("vgg11", 31, "at least 32"),
        ("maxvit_t", 100, "The nearest sizes are 224."),
        ("densenet121", 31, "at least 32"),
    ],
)
def test_an_image_size_that_does_not_fit_is_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(SpecError) as error:
        load_backbone(random(name, image_size=size), device="meta")
    assert message in str(error.value)


def test_options_that_the_backbone_does_not_have_are_refused() -> None:
    with pytest.raises(SpecError, match="resnet18 has no pooling 'cls'"):
        load_backbone(random("resnet18", pooling="cls"), device="meta")
    with pytest.raises(SpecError, match="max_length"):
        load_backbone(random("resnet18", max_length=12), device="meta")


def test_random_weights_are_the_same_bits_for_a_seed() -> None:
    first, again, other = (load_backbone(random("resnet18"), seed=seed).fingerprint for seed in (1, 1, 2))
    assert first == again != other


def test_positions_are_interpolated_to_another_image_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = models.vit_b_32(weights=None)  # 7 × 7 patches
    torch.save(trained.state_dict(), tmp_path / "vit.pth")
    backbone = load_backbone(BackboneSpec(name="vit_b_32", weights=str(tmp_path / "vit.pth"), image_size=128))
    grid = trained.encoder.pos_embedding[:, 1:].detach().view(1, 7, 7, 768)
    found = backbone.net.encoder.pos_embedding
    assert found.shape == (1, 17, 768)
    torch.testing.assert_close(found[:, 0], trained.encoder.pos_embedding[:, 0])
    corners = grid[:, [0, 0, 6, 6], [0, 6, 0, 6]]
    torch.testing.assert_close(found[:, [1, 4, 13, 16]], corners)  # corners are kept; what lies between is interpolated
    assert backbone({"images": images(128)}).shape == (2, 768)


def test_densenet_files_with_old_names_fit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = models.densenet121(weights=None).state_dict()
    old = {}
    for name, tensor in state.items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            if f".{part}." in name and "denselayer" in name:
                name = name.replace(part, f"{part[:-1]}.{part[-1]}")
        if not name.endswith("num_batches_tracked"):
            old[name] = tensor
    assert any(".norm.1." in name for name in old)
    torch.save(old, tmp_path / "densenet.pth")
    backbone = load_backbone(BackboneSpec(name="densenet121", weights=str(tmp_path / "densenet.pth")))
    own = backbone.net.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in own)


@pytest.mark.parametrize("name", [*CLASSIFIER, "vgg11"])
def test_nothing_is_drawn_under_weights_that_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    state = models.get_model(name, weights=None).state_dict()
    old = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    drawn = torch.Tensor.uniform_, torch.Tensor.normal_
    for method in drawn:
        monkeypatch.setattr(
            torch.Tensor, method.__name__, lambda own, *values, method=method, **rest: (
                pytest.fail("random values were drawn") if not own.is_meta else method(own, *values, **rest)
            )
        )  # fmt: skip
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)  # new memory is NaN, or the largest whole number
    try:
        backbone = load_backbone(BackboneSpec(name=name, weights=str(tmp_path / "old.pth")))
    finally:
        torch.use_deterministic_algorithms(False)
    own = backbone.net.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save(models.resnet34(weights=None).state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(WeightsError, match=r"resnet34\.pth does not fit the backbone.*unexpected: layer1\.2"):
        load_backbone(BackboneSpec(name="resnet18", weights=str(tmp_path / "resnet34.pth")))


def test_a_checkpoint_in_torch_home_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(7)
    trained = models.resnet18(weights=None)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(trained.state_dict(), folder / "resnet18-f37072fd.pth")
    backbone = load_backbone(BackboneSpec(name="resnet18"))
    trained.fc = nn.Identity()
    assert backbone.fingerprint == fingerprint(trained)


def test_no_network_and_no_cache_is_one_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WeightsError) as error:
        load_backbone(BackboneSpec(name="resnet18"))
    message = str(error.value)
    place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    for part in (
        str(place),
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        'weights = "random"',
        "refused",
    ):
        assert part in message
    assert not place.parent.exists()
    shutil.rmtree(tmp_path)
