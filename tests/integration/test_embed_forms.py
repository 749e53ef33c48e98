"""Embeddings as flat columns, in CSV, in float16, and of a named layer."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from hub import TEXTS, save_tiny_bert

from deeptune.backbones import load_backbone
from deeptune.data.sources.parquet import open_source
from deeptune.engine.embedding_form import EmbeddingForm
from deeptune.engine.predict import ApplyOptions, Embedder
from deeptune.errors import SpecError
from deeptune.spec.run_spec import BackboneSpec

ROWS = 12
RESNET = BackboneSpec(name="resnet18", weights="random", image_size=32)


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.parquet"
    content = [png(row) for row in range(ROWS)]
    content[3] = b"no image"
    columns = {
        "images": content,
        "labels": [row % 2 for row in range(ROWS)],
        "site": [f"ward {row % 3}" for row in range(ROWS)],
        "sizes": [[row, row + 1] for row in range(ROWS)],
        "key": [bytes([row]) for row in range(ROWS)],
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(RESNET, device="cpu")


@pytest.fixture(scope="module")
def expected(embedder: Embedder, images: Path) -> np.ndarray:
    return embedder.embeddings(open_source(str(images)), ApplyOptions())


def write(embedder: Embedder, images: Path, output: Path, **form: str) -> Path:
    embedder.write_embeddings(open_source(str(images)), output, ApplyOptions(form=EmbeddingForm(**form)))
    return output


def numbers(frame: pd.DataFrame) -> np.ndarray:
    return frame[[f"e{index}" for index in range(512)]].to_numpy(np.float32)


def test_wide_columns_hold_the_numbers_of_the_lists(embedder, images, expected, tmp_path):
    frame = pd.read_parquet(write(embedder, images, tmp_path / "wide.parquet", format="wide"))
    assert list(frame.columns[:3]) == ["row", "label", "e0"]
    assert list(frame.columns[-4:]) == ["site", "sizes", "key", "error"]
    np.testing.assert_array_equal(numbers(frame), expected)
    assert np.isnan(numbers(frame)[3]).all()


def test_a_csv_is_read_by_pandas_with_the_same_numbers(embedder, images, expected, tmp_path):
    said: list[str] = []
    options = ApplyOptions(form=EmbeddingForm("wide"), notify=said.append)
    embedder.write_embeddings(open_source(str(images)), tmp_path / "wide.csv", options)
    frame = pd.read_csv(tmp_path / "wide.csv")
    np.testing.assert_array_equal(numbers(frame), expected)
    assert frame["site"].tolist() == [f"ward {row % 3}" for row in range(ROWS)]
    assert json.loads(frame["sizes"][5]) == [5, 6]
    assert "key" not in frame.columns  # an image as text is longer than a cell of a spreadsheet
    assert "left out of wide.csv, because they hold bytes: key" in said


@pytest.mark.parametrize("form", ["list", "wide"])
def test_float16_is_the_nearest_half(embedder, images, expected, tmp_path, form):
    table = pq.read_table(write(embedder, images, tmp_path / "half.parquet", format=form, dtype="float16"))
    if form == "list":
        assert table["embedding"].type == pa.list_(pa.float16(), 512)
        assert table["embedding"][3].as_py() is None
        found = np.array([value for row, value in enumerate(table["embedding"].to_pylist()) if row != 3], np.float16)
    else:
        found = np.delete(numbers(table.to_pandas()), 3, axis=0).astype(np.float16)
    np.testing.assert_array_equal(found, np.delete(expected, 3, axis=0).astype(np.float16))


def test_a_layer_gives_what_the_network_computes_there(embedder, images):
    found = embedder.at_layer("backbone.net.layer3").embeddings(open_source(str(images)), ApplyOptions())
    assert found.shape == (ROWS, 256)
    backbone = load_backbone(RESNET, seed=42)
    net, kept = backbone.net.eval(), {}
    net.layer3.register_forward_hook(lambda module, inputs, output: kept.update(map=output))
    prepare = Compose([Resize(backbone.preprocessing.resize), CenterCrop(32)])
    pictures = [prepare(Image.open(io.BytesIO(png(row)))) for row in range(ROWS) if row != 3]
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    with torch.inference_mode():
        backbone({"images": torch.from_numpy(pixels).permute(0, 3, 1, 2)})
    np.testing.assert_allclose(np.delete(found, 3, axis=0), kept["map"].mean((2, 3)).numpy(), rtol=1e-4, atol=1e-6)


def test_the_last_layer_before_pooling_is_the_embedding(embedder, images, expected):
    found = embedder.at_layer("backbone.net.layer4").embeddings(open_source(str(images)), ApplyOptions())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_padding_does_not_reach_the_layer_of_a_text_model(tmp_path):
    folder = save_tiny_bert(tmp_path / "tiny")
    embedder = Embedder(BackboneSpec(name=f"hf:{folder}"), device="cpu").at_layer("backbone.net.encoder.layer.0")
    found = {}
    for name, texts in {"alone": TEXTS[:1], "beside": TEXTS}.items():
        pq.write_table(pa.table({"text": texts}), tmp_path / f"{name}.parquet")
        found[name] = embedder.embeddings(open_source(str(tmp_path / f"{name}.parquet")), ApplyOptions())
    np.testing.assert_allclose(found["alone"][0], found["beside"][0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [("backbone.net.layer5", "Did you mean"), ("", "no layer"), ("backbone.net.layer4.1.bn2", "")],
)
def test_another_name_is_refused_with_the_nearest(embedder, name, words):
    if not words:  # batch normalisation within a block has a map too
        assert embedder.at_layer(name).model.last_layer.in_features == 512
        return
    with pytest.raises(SpecError, match=words):
        embedder.at_layer(name)


@pytest.mark.parametrize(
    ("form", "output", "words"),
    [
        ({"format": "wde"}, "x.parquet", "Did you mean 'wide'"),
        ({"dtype": "float8"}, "x.parquet", "expected 'float32' or 'float16'"),
        ({}, "x.csv", "holds no lists"),
    ],
)
def test_a_form_that_can_t_be_is_refused_before_the_work(embedder, images, tmp_path, form, output, words):
    with pytest.raises(SpecError, match=words):
        write(embedder, images, tmp_path / output, **form)
    assert not (tmp_path / output).exists()
