"""`deeptune explain`: maps and token scores against captum and by their own laws, and the tests of explanations."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from PIL import Image
from torch import nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

import deeptune
from deeptune.api.explain import parse_rows, worst_rows
from deeptune.backbones.timm import TimmBackbone
from deeptune.backbones.torchvision.backbone import TorchvisionBackbone
from deeptune.catalog import find
from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.errors import SpecError
from deeptune.explain.faithfulness import row_test, shuffled_weights, verdict
from deeptune.explain.images import image_maps
from deeptune.explain.texts import blank_inputs, token_scores, token_texts, words
from deeptune.report.explanations import tokens_html

ROWS = 40


def encoded(row: int) -> bytes:
    pixels = np.random.default_rng(row).integers(0, 256, (40, 40, 3), np.uint8)
    pixels[:, :, row % 2] = 250
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def of_images(tmp_path_factory: pytest.TempPathFactory) -> deeptune.Run:
    folder = tmp_path_factory.mktemp("images")
    content = [encoded(row) for row in range(ROWS)]
    pq.write_table(pa.table({"images": content, "labels": ["red", "green"] * (ROWS // 2)}), folder / "images.parquet")
    spec = {
        "data": {"path": folder / "images.parquet"},
        "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
        "train": {"epochs": 2, "device": "cpu"},
    }
    return deeptune.finetune(spec, output=folder / "runs", in_process=True, progress=False)


@pytest.fixture(scope="module")
def of_texts(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> deeptune.Run:
    folder = tmp_path_factory.mktemp("texts")
    texts = [("a good film", "bad acting")[row % 2] + " the plot" * (row % 3) for row in range(ROWS)]
    pq.write_table(
        pa.table({"text": texts, "labels": [row % 2 / 1 + row % 3 for row in range(ROWS)]}), folder / "t.parquet"
    )
    spec = {
        "task": "regression",
        "data": {"path": folder / "t.parquet"},
        "backbone": {"name": f"hf:{tiny_bert}", "weights": "random"},
        "train": {"epochs": 2, "device": "cpu"},
    }
    return deeptune.finetune(spec, output=folder / "runs", in_process=True, progress=False)


def run_explain(run: deeptune.Run, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deeptune", "explain", str(run.path), "--device", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_map_of_a_mean_and_a_linear_head_is_captum_s_grad_cam(of_images):
    model = of_images.model("cpu").torch_module()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = image_maps(model, {"images": images}, torch.tensor([1, 0]))

    def logits(pixels):
        return model.head(model.backbone.pool(model.backbone.features({"images": pixels}), {}).float())

    net = model.backbone.net
    with torch.enable_grad():
        expected = LayerGradCam(logits, net.layer4).attribute(
            images.float().requires_grad_(), target=torch.tensor([1, 0]), relu_attributions=False
        )
    scale = found.abs().amax((1, 2), keepdim=True)
    other = expected[:, 0].detach()
    torch.testing.assert_close(found / scale, other / other.abs().amax((1, 2), keepdim=True), rtol=1e-3, atol=1e-4)


@dataclass
class Headed:
    """A backbone with a head, as explanations take it."""

    backbone: TimmBackbone | TorchvisionBackbone
    head: nn.Module


def small(kind: str) -> tuple[Headed, str]:
    """A small network, and the layer at whose input its maps are."""
    torch.manual_seed(0)
    preprocessing = ImagePreprocessing(64, 64, "bilinear", (0.5,) * 3, (0.3,) * 3)
    if kind == "torchvision swin v2":
        net: nn.Module = SwinTransformer(
            [4, 4], 16, [2, 2], [2, 4], [4, 4], 0.0, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2
        )
        net.head = nn.Identity()
        made: TimmBackbone | TorchvisionBackbone = TorchvisionBackbone(
            find("swin_t"), net.eval(), width=32, pooling="mean", preprocessing=preprocessing
        )
        return Headed(made, nn.Linear(32, 3)), "features.3.0"
    name, layer, options = {
        "timm swin": (
            "swin_tiny_patch4_window7_224",
            "layers.1.blocks.0",
            {"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)},
        ),
        "timm cnn": ("test_resnet", "layer4", {}),
    }[kind]
    net = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
    width = net.num_features
    made = TimmBackbone(find(f"timm:{name}"), net, width=width, pooling="head", preprocessing=preprocessing)
    return Headed(made, nn.Linear(width, 3)), layer


@pytest.mark.parametrize("kind", ["torchvision swin v2", "timm swin", "timm cnn"])
def test_maps_are_captum_s_gradient_times_activation(kind):
    """Of Swin before its last stage, so that gradients pass its attention, less the mean; of a CNN before pooling."""
    model, layer = small(kind)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([1, 0])
    found = image_maps(model, {"images": images}, classes)

    def logits(pixels):
        return model.head(model.backbone({"images": pixels}))

    with torch.enable_grad():
        expected = LayerGradientXActivation(logits, model.backbone.net.get_submodule(layer)).attribute(
            images.float().requires_grad_(), target=classes, attribute_to_layer_input="swin" in kind
        )
    maps = expected.sum(3 if "swin" in kind else 1).detach()
    if "swin" in kind:
        maps = maps - maps.mean((1, 2), keepdim=True)
    torch.testing.assert_close(found, maps, rtol=1e-3, atol=1e-5)


def test_scores_of_tokens_add_up_to_the_change_of_the_output(of_texts):
    model = of_texts.model("cpu").torch_module()
    tokenizer = model.backbone.preprocessing.tokenizer
    inputs = dict(tokenizer(["a good film the plot"], return_tensors="pt"))
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    scores, miss = token_scores(model, inputs, 0)
    with torch.inference_mode():
        change = float(model(inputs)[0, 0] - model(blank_inputs(model, inputs))[0, 0])
    assert miss < 0.05
    assert float(scores.sum()) == pytest.approx(change, rel=0.06, abs=1e-5)
    assert len(token_texts(model, inputs)) == len(scores)
    assert words(model, inputs).sum() == 5
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())  # as it was


def additive(weights):
    return lambda masks: masks.astype(float) @ weights


def test_an_order_by_true_parts_is_better_than_random_and_a_random_one_is_not():
    rng = np.random.default_rng(0)
    good, bad = [], []
    for _ in range(12):
        weights = rng.exponential(size=32)
        good.append(row_test(additive(weights), weights, rng.normal(size=32), rng))
        bad.append(row_test(additive(weights), rng.normal(size=32), rng.normal(size=32), rng))
    assert verdict(good).better is True
    assert verdict(good).gain > 0.3
    assert verdict(bad).better is False
    assert "Not shown to be better than random" in verdict(bad).text
    assert verdict(good[:3]).better is None
    assert "too few" in verdict(good[:3]).text


def test_an_explanation_that_does_not_depend_on_the_model_is_named():
    rng = np.random.default_rng(1)
    weights = rng.exponential(size=32)
    tests = [row_test(additive(weights), weights, weights + 0.01 * rng.normal(size=32), rng) for _ in range(6)]
    assert "resemble those of a model with shuffled weights" in verdict(tests).text


def test_curves_run_from_the_whole_sample_to_the_blank_one():
    weights = np.array([3.0, 1.0, 2.0, 0.5])
    test = row_test(additive(weights), weights, -weights, np.random.default_rng(0))
    assert test.explained.deletion[[0, -1]].tolist() == pytest.approx([1, 0])
    assert test.explained.insertion[[0, -1]].tolist() == pytest.approx([0, 1])


def test_an_explanation_is_judged_alike_where_the_blank_sample_has_more_of_the_output():
    """The parts that speak against the output outweigh those for it, and the explanation is exact."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=32) - 0.5
    test = row_test(lambda masks: 5 + additive(weights)(masks), weights, -weights, rng)
    assert test.gain > 0.1
    assert test.shuffled.area < 0
    assert test.explained.deletion[[0, -1]].tolist() == pytest.approx([-1, 0])
    assert test.explained.insertion[[0, -1]].tolist() == pytest.approx([0, -1])


def test_a_blank_sample_of_nearly_the_same_output_makes_no_gain_enormous():
    """Words that speak for and against an output, so that the whole text says as little as the blank one."""
    weights = np.array([3.0, -3.0, 2.0, -2.0 + 1e-6])
    test = row_test(additive(weights), weights, weights[::-1], np.random.default_rng(0))
    assert 0 < test.gain < 2
    constant = row_test(lambda masks: np.zeros(len(masks)), weights, weights, np.random.default_rng(0))
    assert constant.gain == 0


def test_shuffled_weights_are_the_same_numbers_elsewhere(of_images):
    model = of_images.model("cpu").torch_module()
    other = shuffled_weights(model, seed=0)
    before, after = model.backbone.net.conv1.weight, other.backbone.net.conv1.weight
    assert not torch.equal(before, after)
    assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)


def test_the_worst_errors_of_images_are_drawn_into_the_report(of_images):
    done = run_explain(of_images, "--worst", "5")
    assert done.returncode == 0, done.stderr
    folder = Path(of_images.path) / "explanations"
    stored = json.loads((folder / "explanations.json").read_text())
    assert [row["row"] for row in stored["rows"]] == worst_rows(of_images.directory, 5)
    assert {file.name for file in folder.iterdir()} == {
        "explanations.json",
        *(row["picture"] for row in stored["rows"]),
    }
    report = (Path(of_images.path) / "report.html").read_text()
    assert stored["verdict"]["text"].replace("'", "&#39;") in report
    assert report.count('<img src="data:image/png;base64,') == 5
    assert stored["verdict"]["text"] in " ".join(done.stdout.split("\n"))


def test_rows_of_a_file_are_explained_for_a_class(of_images, tmp_path):
    data = str(of_images.spec.data.path)
    out = tmp_path / "out"
    done = run_explain(of_images, "--data", data, "--rows", "3,7-8", "--of", "red", "-o", str(out), "-q")
    assert done.returncode == 0, done.stderr
    stored = json.loads((out / "explanations.json").read_text())
    assert [row["row"] for row in stored["rows"]] == [3, 7, 8]
    assert stored["of"] == "red"
    (out / "notes.txt").write_text("a person's own")
    done = run_explain(of_images, "--data", data, "--rows", "4", "-o", str(out), "-q")
    assert done.returncode == 0, done.stderr
    assert {file.name for file in out.iterdir()} == {"explanations.json", "row-4.png", "notes.txt"}


def test_rows_of_files_in_several_folders_are_explained_by_their_own_images(of_images, tmp_path):
    for site, first in (("a", 0), ("b", 10)):
        folder = tmp_path / site
        folder.mkdir()
        for row in range(2):
            (folder / f"{row}.png").write_bytes(encoded(first + row))
        pq.write_table(pa.table({"images": ["0.png", "1.png"]}), folder / "x.parquet")
    out = tmp_path / "out"
    done = run_explain(of_images, "--data", str(tmp_path), "--rows", "1,3,0", "-o", str(out), "-q")
    assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"images": [encoded(row) for row in (0, 1, 10, 11)]}), whole)
    again = tmp_path / "again"
    assert run_explain(of_images, "--data", str(whole), "--rows", "1,3,0", "-o", str(again), "-q").returncode == 0
    for row in (0, 1, 3):
        assert (out / f"row-{row}.png").read_bytes() == (again / f"row-{row}.png").read_bytes()
    assert [one["row"] for one in json.loads((out / "explanations.json").read_text())["rows"]] == [1, 3, 0]


def test_texts_of_a_regression_have_scores_for_each_token(of_texts):
    done = run_explain(of_texts, "--rows", "0-4", "--json")
    assert done.returncode == 0, done.stderr
    stored = json.loads(done.stdout)
    for row in stored["rows"]:
        assert len(row["tokens"]) == len(row["scores"])
        assert any(row["scores"])
        assert len(row["curves"]["explanation"]["deletion"]) == len(stored["shares"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--rows", "9999"], 3, "there is no row 9,999"),
        (["--rows", "x"], 2, "'x' is not a row number"),
        (["--of", "blue"], 2, "there is no class 'blue'"),
        (["--data", "x.parquet"], 2, "--data needs --rows"),
    ],
)
def test_what_can_t_be_explained_is_one_message(of_images, arguments, code, words):
    done = run_explain(of_images, *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_are_read_as_people_write_them():
    assert parse_rows("3, 17,40-42,3", 10) == [3, 17, 40, 41, 42]
    with pytest.raises(SpecError, match="at most 10"):
        parse_rows("0-10", 10)


def test_a_text_in_the_report_is_never_markup():
    assert "<b>" not in tokens_html(["<b>", "x"], [0.5, -0.1])
