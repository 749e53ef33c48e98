"""Runs on images with texts: what two backbones learn, resuming, prediction, embeddings and explanations."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
import transformers
from captum.attr import LayerGradientXActivation
from faults.killing import finish, killed_after, log_lines, same_outcome
from PIL import Image
from posts import rows_of
from transformers import BertTokenizerFast

import deeptune
from deeptune.data.cache.entry import entries
from deeptune.engine.prepare import prepare
from deeptune.engine.run import execute
from deeptune.explain.images import image_maps
from deeptune.explain.parts import parts_of
from deeptune.explain.texts import blank_inputs, token_scores
from deeptune.report import write_report
from deeptune.runs import RunDirectory, new_run_directory, read_records, write_text
from deeptune.runs.files import read_json
from deeptune.show.explanations import read_explanations
from deeptune.spec import RunSpec, dump_spec, load_spec
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture(scope="module")
def trained(
    spec_of: Callable[..., RunSpec], tmp_path_factory: pytest.TempPathFactory, no_reports: None
) -> dict[str, RunDirectory]:
    """A finished run of each method."""
    runs = {}
    for method, train in {
        "partial": {"epochs": 60, "learning_rate": 1e-2, "weight_decay": 0.01},
        "lora": {"epochs": 6, "learning_rate": 2e-3, "head_learning_rate": 1e-2},
        "full": {"epochs": 20, "learning_rate": 2e-3, "head_learning_rate": 1e-2, "early_stopping": {"patience": 0}},
    }.items():
        run = new_run_directory(tmp_path_factory.mktemp("runs"), method)
        write_text(run.spec, dump_spec(spec_of(method, **train)))
        execute(spec_of(method, **train), run)
        runs[method] = run
    return runs


METHODS = pytest.mark.parametrize("method", ["partial", "lora", "full"])


@METHODS
def test_a_run_learns_what_only_both_parts_tell(trained: dict[str, RunDirectory], method: str) -> None:
    """A run ends only when the model that was read back equals the trained one bit for bit."""
    assert read_json(trained[method].metrics)["test"]["accuracy"] > 0.9  # an image or a text alone gives 0.5


@pytest.mark.parametrize("part", ["images", "caption"])
def test_one_part_alone_tells_nothing(spec_of: Callable[..., RunSpec], bert: Path, tmp_path: Path, part: str) -> None:
    spec = spec_of(epochs=30)
    backbone = {"images": spec.backbone.members["backbone"].model_dump(), "caption": {"name": f"hf:{bert}"}}[part]
    values = {**spec.model_dump(), "backbone": backbone}
    values["data"]["input"] = part
    run = new_run_directory(tmp_path, "one")
    execute(validate(values), run)
    assert read_json(run.metrics)["test"]["accuracy"] < 0.7


def test_pooled_features_are_those_of_both_libraries_side_by_side(
    spec_of: Callable[..., RunSpec], file: Path, bert: Path
) -> None:
    ready = prepare(spec_of())
    source = next(iter(ready.samples))
    from deeptune.data.loading.dataset import SampleOptions

    inputs = ready.samples[source].inputs(SampleOptions()).batch(np.arange(8), 0)
    with torch.inference_mode():
        found = ready.model.pooled(inputs)
    table = pq.read_table(file).slice(0, 8)
    net = timm.create_model("test_resnet", num_classes=0)
    net.load_state_dict(ready.backbone.net["image"].net.state_dict())
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in table["images"].to_pylist()])
    mean, std = (torch.tensor(net.default_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    words = tokenizer(table["caption"].to_pylist(), padding=True, return_tensors="pt")
    with torch.inference_mode():
        images = net.eval()((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
        tokens = transformers.AutoModel.from_pretrained(bert).eval()(**words).last_hidden_state
    mask = words["attention_mask"].unsqueeze(2)
    texts = (tokens * mask).sum(1) / mask.sum(1) if ready.spec.backbone.text.pooling == "mean" else tokens[:, 0]
    assert found.shape == (8, images.shape[1] + 32)
    torch.testing.assert_close(found, torch.cat([images, texts], 1), rtol=1e-4, atol=1e-5)


def test_the_resolved_spec_says_what_each_backbone_takes(trained: dict[str, RunDirectory]) -> None:
    backbone = load_spec(trained["partial"].spec).backbone
    assert (backbone.image_size, backbone.text.max_length) == (32, 32)
    assert "auto" not in (backbone.pooling, backbone.text.pooling)


def test_a_manifest_records_both_preprocessings(trained: dict[str, RunDirectory]) -> None:
    record = read_json(trained["partial"].best / "manifest.json")["preprocessing"]
    assert (record["modality"], record["image"]["image_size"], record["text"]["max_length"]) == ("image_text", 32, 32)


def test_adapters_are_in_both_backbones(trained: dict[str, RunDirectory]) -> None:
    targets = read_json(trained["lora"].best / "manifest.json")["lora"]["targets"]
    assert {name.split(".")[0] for name in targets} == {"image", "text"}


def test_adapters_may_be_in_one_backbone_alone(spec_of: Callable[..., RunSpec]) -> None:
    spec = spec_of("lora")
    lora = spec.tuning.lora.model_copy(update={"targets": ["query", "value"]})
    model = prepare(spec.model_copy(update={"tuning": spec.tuning.model_copy(update={"lora": lora})})).model
    learning = {name.split(".")[2] for name, one in model.named_parameters() if one.requires_grad and "lora" in name}
    assert learning == {"text"}


@METHODS
def test_the_command_and_python_give_the_same_bits(trained: dict[str, RunDirectory], command: Any, method: str) -> None:
    later = rows_of(30, seed=7)
    pq.write_table(later, "later.parquet")
    answer = command("predict", str(trained[method].path), "--data", "later.parquet", "-o", "found.parquet")
    assert answer.code == 0, answer.stderr
    by_command = pq.read_table("found.parquet")
    model = deeptune.load(str(trained[method].path))
    pairs = list(zip(later["images"].to_pylist(), later["caption"].to_pylist(), strict=True))
    for found in (model.predict(later), model.predict(pairs), model.predict("later.parquet")):
        assert found["probabilities"].to_pylist() == by_command["probabilities"].to_pylist()


def test_images_of_a_python_program_go_with_their_texts(trained: dict[str, RunDirectory]) -> None:
    later = rows_of(6, seed=7)
    model = deeptune.load(str(trained["full"].path))
    pictures = [Image.open(io.BytesIO(one)) for one in later["images"].to_pylist()]
    found = model.predict(list(zip(pictures, later["caption"].to_pylist(), strict=True)))
    assert found["prediction"].to_pylist() == model.predict(later)["prediction"].to_pylist()


def test_stored_predictions_are_repeated(trained: dict[str, RunDirectory], file: Path) -> None:
    stored = pq.read_table(trained["lora"].predictions)
    found = deeptune.load(str(trained["lora"].path)).predict(str(file)).take(stored["row"])
    assert found["prediction"].to_pylist() == stored["prediction"].to_pylist()


def test_embeddings_and_metrics_of_a_later_file(trained: dict[str, RunDirectory], command: Any) -> None:
    pq.write_table(rows_of(60, seed=5), "later.parquet")
    run = str(trained["partial"].path)
    assert command("evaluate", run, "--data", "later.parquet").code == 0
    answer = command("embed", run, "--data", "later.parquet", "-o", "vectors.parquet")
    assert answer.code == 0, answer.stderr
    assert pq.read_schema("vectors.parquet").names == ["row", "label", "embedding", "noted"]


def test_a_run_on_the_images_alone_finds_their_features(
    spec_of: Callable[..., RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    both, alone = (new_run_directory(tmp_path, name) for name in ("both", "alone"))
    execute(spec_of(epochs=1), both)
    assert len([entry for entry in entries() if entry.width is not None]) == 2
    values = spec_of(epochs=1).model_dump()
    values["data"]["input"], values["backbone"]["text"] = "images", None
    execute(validate(values), alone)
    assert any(
        "no row passes the frozen backbone" in record.get("message", "") for record in read_records(alone.events)
    )


def test_what_passed_the_backbones_is_told_of_each(trained: dict[str, RunDirectory]) -> None:
    said = " ".join(record.get("message", "") for record in read_records(trained["partial"].events))
    assert "passed the frozen backbone of images once" in said
    assert "passed the frozen backbone of texts once" in said


def test_a_bad_row_has_a_reason_beside_its_empty_prediction(trained: dict[str, RunDirectory], spoiled: Path) -> None:
    found = deeptune.load(str(trained["full"].path)).predict(str(spoiled), on_bad_sample="skip")
    assert found["error"][3].as_py() == "is null (column 'caption')"
    assert found["prediction"][3].as_py() is None
    assert found["prediction"][4].as_py() is not None


def test_the_report_names_both_backbones(trained: dict[str, RunDirectory]) -> None:
    write_report(trained["full"].path)
    page = trained["full"].report.read_text(encoding="utf-8")
    assert "timm:test_resnet backbone of the images from random initial weights and a bert" in page
    assert "their pooled features side by side" in page


def test_the_text_backbone_keeps_its_configuration_in_the_run(trained: dict[str, RunDirectory]) -> None:
    assert (trained["partial"].backbone / "text" / "tokenizer.json").is_file()


@pytest.mark.parametrize("method", ["partial", "full"])
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(
    spec_of: Callable[..., RunSpec], tmp_path: Path, method: str
) -> None:
    alone, killed = (new_run_directory(tmp_path, name) for name in ("alone", "killed"))
    augmentation = "light" if method == "full" else "none"
    for run in (alone, killed):
        spec = spec_of(method, epochs=3, checkpoint_every="3 steps", augmentation=augmentation)
        write_text(run.spec, dump_spec(spec))
    finish(alone, report=False)
    assert killed_after(log_lines(alone) // 2, 0, killed)
    same_outcome(alone, finish(killed, report=False))


def test_views_are_of_the_images_alone(
    spec_of: Callable[..., RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    run = new_run_directory(tmp_path, "views")
    execute(spec_of(epochs=2, augmentation="light", views=2), run)
    features = [entry for entry in entries() if entry.width is not None]
    # Of images: all rows, and two views of the training rows. Of texts: all rows, and the training rows.
    assert len(features) == 5


def test_explain_scores_the_image_and_the_text(
    trained: dict[str, RunDirectory], file: Path, command: Any, tmp_path: Path
) -> None:
    """Labels that only image and text together give, so that each part matters while the other is whole."""
    run, out = trained["full"], tmp_path / "why"
    answer = command("explain", str(run.path), "--data", str(file), "--rows", "0-9", "-o", str(out))
    assert answer.code == 0, answer.stderr
    stored = read_json(out / "explanations.json")
    assert [(row["row"], row["kind"]) for row in stored["rows"]] == [
        (i, k) for i in range(10) for k in ("image", "text")
    ]
    assert stored["verdict"]["kinds"]["image"]["interval"] is not None
    assert stored["verdict"]["kinds"]["text"]["better_than_random"] is True
    images, texts = stored["rows"][::2], stored["rows"][1::2]
    assert all(Image.open(out / row["picture"]).width == 32 * 2 + 4 for row in images)
    assert all(len(row["tokens"]) == len(row["scores"]) and any(row["scores"]) for row in texts)
    for row in stored["rows"]:
        assert abs(row["gain"]) < 10
        for curves in row["curves"].values():
            assert curves["insertion"][0] == pytest.approx(0, abs=1e-4)
    assert answer.stdout.count("(image), predicted") == 10


def test_scores_of_a_part_agree_with_captum_on_the_whole_model(trained: dict[str, RunDirectory], bert: Path) -> None:
    model = deeptune.Run(trained["full"].path).model("cpu").torch_module()
    tokens = BertTokenizerFast.from_pretrained(bert)(["a day of sun and snow"], return_tensors="pt")
    numbers = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=numbers)
    inputs = {"images": images, "input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
    image, text = parts_of(model, inputs)
    with torch.inference_mode():
        whole = model(inputs)
    torch.testing.assert_close(image.logits(image.inputs), whole)
    torch.testing.assert_close(text.logits(text.inputs), whole)

    scores, _ = token_scores(text, text.inputs, 0)
    blank = inputs | blank_inputs(text, text.inputs)
    with torch.inference_mode():
        change = float(whole[0, 0] - model(blank)[0, 0])
    assert float(scores.sum()) == pytest.approx(change, rel=0.1, abs=0.02)

    found = image_maps(image, image.inputs, torch.tensor([0]))

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        return model({**inputs, "images": pixels})

    layer = model.backbone.net["image"].net.layer4
    with torch.enable_grad():
        expected = LayerGradientXActivation(logits, layer).attribute(images.float().requires_grad_(), target=0)
    torch.testing.assert_close(found, expected.sum(1).detach(), rtol=1e-3, atol=1e-5)


def test_a_row_of_both_is_one_explanation_for_the_interface(trained: dict[str, RunDirectory], command: Any) -> None:
    run = trained["partial"]
    assert command("explain", str(run.path), "--worst", "5", "-q").code == 0
    found = read_explanations(run)
    assert len(found) == 5
    for one in found.values():
        assert one.picture is not None
        assert one.picture.is_file()
        assert one.tokens
        assert "for the image" in one.gains
        assert one.text_gain is not None
        assert one.verdict.startswith("Of the images: ")  # a sentence, not a table
    page = run.report.read_text(encoding="utf-8")
    assert next(iter(found.values())).verdict.replace("'", "&#39;") in page
