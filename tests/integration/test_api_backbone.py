"""`deeptune.load_backbone`: a plain backbone from Python, with the bits of `deeptune embed --backbone`."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import deeptune
from deeptune.cli.app import app
from deeptune.errors import DataError, SpecError

ROWS = 6
SETTINGS = {"image_size": 32}
PIXELS = np.random.default_rng(0).integers(0, 256, (ROWS, 40, 36, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def plain():
    return deeptune.load_backbone("resnet18", weights="random", settings=SETTINGS, device="cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "images.parquet"
    pq.write_table(pa.table({"images": [png(pixels) for pixels in PIXELS], "labels": [0, 1] * 3}), path)
    return path


def command(file, output, *more):
    words = ["embed", "--backbone", "resnet18", "--weights", "random", "--image-size", "32", "--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "--data", str(file), "--output", str(output), "--quiet", *more])
    assert done.exit_code == 0, done.output
    return np.array(pq.read_table(output)["embedding"].to_pylist(), np.float32)


@pytest.mark.parametrize("layer", [None, "backbone.net.layer3"])
def test_every_form_of_samples_has_the_bits_of_the_command(plain, file, tmp_path, layer):
    written = command(file, tmp_path / "out.parquet", *([] if layer is None else ["--layer", layer]))
    table = pq.read_table(file)
    for samples in (file, table, table.to_pandas(), list(PIXELS), [png(pixels) for pixels in PIXELS]):
        np.testing.assert_array_equal(plain.embed(samples, layer=layer), written)
    plain.write_embeddings(str(file), tmp_path / "own.parquet", layer=layer)
    assert pq.read_table(tmp_path / "own.parquet") == pq.read_table(tmp_path / "out.parquet")


def test_the_torch_module_gives_the_pooled_features(plain):
    colours = np.random.default_rng(1).integers(0, 256, (4, 1, 1, 3), np.uint8)
    same_size = np.broadcast_to(colours, (4, 32, 32, 3)).copy()  # resizing leaves an image of one colour as it is
    with torch.inference_mode():
        found = plain.torch_module()({"images": torch.from_numpy(same_size).permute(0, 3, 1, 2)})
    np.testing.assert_allclose(found.numpy(), plain.embed(same_size), rtol=1e-4, atol=1e-5)


def test_a_table_is_read_by_the_named_column(file):
    photos = pq.read_table(file).rename_columns(["photo", "labels"])
    named = deeptune.load_backbone("resnet18", weights="random", settings=SETTINGS, input="photo", device="cpu")
    assert named.embed(photos).shape == (ROWS, named.width)
    with pytest.raises(DataError, match="no column 'photo'"):
        named.embed(pq.read_table(file))


def test_what_is_wrong_is_said(plain):
    with pytest.raises(SpecError, match=r"backbone.poolin: unknown key"):
        deeptune.load_backbone("resnet18", weights="random", settings={"poolin": "max"}, device="cpu")
    with pytest.raises(SpecError, match="there is no option 'batchsize'"):
        plain.embed(list(PIXELS), batchsize=2)
    with pytest.raises(DataError, match="row 1"):
        plain.embed([PIXELS[0], b"no image"])
    skipped = plain.embed([PIXELS[0], b"no image"], on_bad_sample="skip")
    assert np.isnan(skipped[1]).all()
    assert np.isfinite(skipped[0]).all()
