"""The lines of docs/checkpoints.md rebuild what each method trained, without DeepTune."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer, resnet18
from transformers import AutoModel

from deeptune.backbones.torchvision.backbone import TorchvisionBackbone
from deeptune.catalog import find
from deeptune.checkpoint import load_checkpoint, save_checkpoint
from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.data.sources.parquet import open_source
from deeptune.engine.run import execute
from deeptune.engine.verify import _lora
from deeptune.model.build import build_model
from deeptune.runs import RunDirectory, new_run_directory
from deeptune.spec.toml import validate
from deeptune.tasks.confidence.calibrators import Method, fit_classes

pytestmark = pytest.mark.usefixtures("no_reports")

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"
ROWS = 24  # of the test split
METHODS: dict[str, dict[str, Any]] = {
    "partial": {"method": "partial"},
    "unfreeze": {"method": "partial", "unfreeze": 1},
    "full": {"method": "full"},
    "lora": {"method": "lora"},
    "dora": {"method": "lora", "lora": {"variant": "dora", "rank": 4}},
    "rslora": {"method": "lora", "lora": {"variant": "rslora", "rank": 4}},
}


@pytest.fixture(scope="module")
def page() -> SimpleNamespace:
    """What the page's lines of Python define."""
    lines: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), lines)
    return SimpleNamespace(**lines)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A file with the first rows of a sample."""
    folder = tmp_path_factory.mktemp("data")

    def some(sample: str) -> str:
        source = open_source(f"sample:{sample}")
        if not (file := folder / f"{sample}.parquet").exists():
            pq.write_table(pq.read_table(source.files[0]).slice(0, 120), file)
        return str(file)

    return some


def trained(folder: Path, data: str, backbone: dict[str, Any], how: str, **parts: Any) -> RunDirectory:
    spec = {
        "data": {"path": data},
        "backbone": backbone,
        "tuning": METHODS[how],
        "train": {"epochs": 3, "device": "cpu", "workers": 0, "head_learning_rate": 0.02},
        **parts,
    }
    directory = new_run_directory(folder / "runs", "test")
    execute(validate(spec), directory)
    return directory


def compare(page: SimpleNamespace, run: RunDirectory, logits: torch.Tensor) -> None:
    """With predictions.parquet; the predictions are not all alike."""
    table = pq.read_table(run.predictions).slice(0, ROWS)
    labels = json.loads(run.labels.read_text())
    if labels["task"] == "regression":
        found = labels["mean"] + labels["std"] * logits[:, 0].numpy()
        expected = table["prediction"].to_numpy()
    else:
        found, expected = page.class_probabilities(logits.numpy(), labels), np.array(table["probabilities"].to_pylist())
    assert expected.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@torch.inference_mode()
def image_logits(page: SimpleNamespace, run: RunDirectory, net: nn.Module, data: str) -> torch.Tensor:
    net, head, manifest = page.rebuild(run.best, net)
    rows = pq.read_table(run.predictions)["row"].to_numpy()[:ROWS]
    images = [Image.open(io.BytesIO(value.as_py())) for value in open_source(data).take("images", rows)]
    return head(net(torch.cat([page.image_input(image, manifest["preprocessing"]) for image in images])))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18().state_dict(), file)
    return file


@pytest.mark.parametrize("how", ["partial", "unfreeze", "full", "lora"])
def test_torchvision(page: SimpleNamespace, data: Callable[[str], str], resnet: Path, tmp_path: Path, how: str) -> None:
    file = data("openclipart7")
    run = trained(tmp_path, file, {"name": "resnet18", "weights": str(resnet), "image_size": 32}, how)
    net = resnet18()
    if how != "full":
        net.load_state_dict(torch.load(resnet, weights_only=True))
    net.fc = nn.Identity()
    compare(page, run, image_logits(page, run, net, file))


@pytest.mark.parametrize(("model", "how"), [("test_vit", "dora"), ("test_resnet", "rslora")])
def test_timm(page: SimpleNamespace, data: Callable[[str], str], tmp_path: Path, model: str, how: str) -> None:
    torch.manual_seed(1)
    own = timm.create_model(model, **({"img_size": 64} if model == "test_vit" else {}))
    save_file(own.state_dict(), tmp_path / "own.safetensors")
    file = data("openclipart7")
    backbone = {"name": f"timm:{model}", "weights": str(tmp_path / "own.safetensors"), "image_size": 64}
    run = trained(tmp_path, file, backbone, how)
    own.reset_classifier(0)
    compare(page, run, image_logits(page, run, own, file))


def test_the_page_rebuilds_a_model_of_numbers(
    page: SimpleNamespace, data: Callable[[str], str], resnet: Path, tmp_path: Path
) -> None:
    file = data("digits_rotation")
    backbone = {"name": "resnet18", "weights": str(resnet), "image_size": 32}
    run = trained(tmp_path, file, backbone, "partial", task="regression")
    net = resnet18()
    net.load_state_dict(torch.load(resnet, weights_only=True))
    net.fc = nn.Identity()
    compare(page, run, image_logits(page, run, net, file))


@pytest.mark.parametrize("how", ["partial", "unfreeze", "full", "lora"])
def test_transformers(
    page: SimpleNamespace, data: Callable[[str], str], review_bert: Path, tmp_path: Path, how: str
) -> None:
    file = data("movie_snippets")
    backbone = {"name": f"hf:{review_bert}", "max_length": 24}
    run = trained(tmp_path, file, backbone, how, head={"layers": 2, "embedding_size": 12})
    rows = pq.read_table(run.predictions)["row"].to_numpy()[:ROWS]
    texts = [value.as_py() for value in open_source(file).take("text", rows)]
    net, head, manifest = page.rebuild(run.best, AutoModel.from_pretrained(review_bert, add_pooling_layer=False))
    with torch.inference_mode():
        compare(page, run, head(page.text_features(net, run.path, texts, manifest)))


def tiny(family: str) -> nn.Module:
    """A ViT or Swin of torchvision of two blocks, without its classifier."""
    torch.manual_seed(1)
    if family == "vit":
        net: nn.Module = VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
        net.heads = nn.Identity()
    else:
        net = SwinTransformer([4, 4], 16, depths=[2], num_heads=[2], window_size=[4, 4])
        net.head = nn.Identity()
    return net.eval()


@pytest.mark.parametrize("family", ["vit", "swin"])
@pytest.mark.parametrize("variant", ["lora", "rslora"])
def test_adapters_on_layers_that_torchvision_names_otherwise(
    page: SimpleNamespace, tmp_path: Path, family: str, variant: str
) -> None:
    info = find({"vit": "vit_b_16", "swin": "swin_t"}[family])
    preprocessing = ImagePreprocessing(32, 32, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    backbone = TorchvisionBackbone(info, tiny(family), width=16, pooling=info.pooling, preprocessing=preprocessing)
    lora = {"variant": variant, "rank": 4, "alpha": 8.0}
    spec = validate(
        {"data": {"path": "."}, "backbone": {"name": info.name}, "tuning": {"method": "lora", "lora": lora}}
    )
    model = build_model(spec, backbone, 3).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    manifest = {"lora": _lora(spec, model), "head": spec.head.model_dump()}
    save_checkpoint(tmp_path / "best", model.tuned_state(), manifest, method="lora")
    assert any("qkv" in name for name in manifest["lora"]["targets"])

    net, head, _ = page.rebuild(tmp_path / "best", tiny(family))
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    inputs = (images / 255 - backbone.mean) / backbone.std
    with torch.inference_mode():
        expected = model({"images": images})
        torch.testing.assert_close(head(net(inputs)), expected, rtol=1e-4, atol=1e-4)
        assert (head(tiny(family)(inputs)) - expected).abs().max() > 0.01


def test_the_page_names_every_key_of_the_manifest(data: Callable[[str], str], resnet: Path, tmp_path: Path) -> None:
    run = trained(
        tmp_path, data("openclipart7"), {"name": "resnet18", "weights": str(resnet), "image_size": 32}, "lora"
    )
    manifest = load_checkpoint(run.best).manifest
    named = set(re.findall(r"`(\w+)`", PAGE.read_text(encoding="utf-8")))
    assert set(manifest) - {"training"} <= named
    assert set(manifest["preprocessing"]) - {"modality"} <= named
    assert manifest["lora"]["targets"] == sorted(
        set(manifest["lora"]["targets"]), key=manifest["lora"]["targets"].index
    )
    assert "layer4.1.conv2" in manifest["lora"]["targets"]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("method", ["none", "temperature", "platt", "beta", "isotonic"])
def test_every_calibrator(page: SimpleNamespace, method: Method, classes: int) -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(300, classes)), rng.integers(0, classes, 300)
    fitted = fit_classes(method, logits, truth)
    found = page.class_probabilities(logits, {"confidence": {"calibrator": fitted.to_json()}})
    np.testing.assert_allclose(found, fitted.of_classes(logits), rtol=1e-9)
