"""`deeptune.load` and what its model gives for paths, tables and lists: the bits of the command line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import deeptune
from deeptune.errors import DataError, SpecError

pytestmark = pytest.mark.usefixtures("no_reports")

ROWS = 24


def pixels(row: int) -> np.ndarray:
    """uint8 (40, 40, 3), another for each row."""
    random = np.random.default_rng(row)
    base = np.array([(200, 30, 30), (30, 30, 200)][row % 2])
    return np.clip(base + random.integers(-30, 30, (40, 40, 3)), 0, 255).astype(np.uint8)


def encoded(values: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def images(folder: Path) -> Path:
    table = {"images": [encoded(pixels(row)) for row in range(ROWS)], "labels": ["red", "blue"] * (ROWS // 2)}
    pq.write_table(pa.table(table), folder / "images.parquet")
    return folder / "images.parquet"


@pytest.fixture(scope="module")
def texts(folder: Path) -> Path:
    table = {
        "text": [("a good film", "bad acting")[row % 2] + " the plot" * (row % 3) for row in range(ROWS)],
        "labels": [("good", "bad")[row % 2] for row in range(ROWS)],
    }
    pq.write_table(pa.table(table), folder / "texts.parquet")
    return folder / "texts.parquet"


@pytest.fixture(scope="module")
def of_images(folder: Path, images: Path) -> deeptune.Model:
    spec = {
        "data": {"path": images},
        "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
        "train": {"epochs": 2, "device": "cpu"},
    }
    return deeptune.finetune(spec, output=folder / "runs", in_process=True, progress=False).model("cpu")


@pytest.fixture(scope="module")
def of_texts(folder: Path, texts: Path, tiny_bert: Path) -> deeptune.Model:
    spec = {
        "data": {"path": texts},
        "backbone": {"name": f"hf:{tiny_bert}", "weights": "random"},
        "tuning": {"method": "lora"},
        "train": {"epochs": 1, "device": "cpu"},
    }
    return deeptune.finetune(spec, output=folder / "runs", in_process=True, progress=False).model("cpu")


def same(table: pa.Table, other: pa.Table) -> None:
    """Bit by bit."""
    assert table.column_names == other.column_names
    for name in table.column_names:
        assert table[name].combine_chunks().equals(other[name].combine_chunks()), name


@pytest.fixture(scope="module")
def commanded(folder: Path, of_images: deeptune.Model, images: Path) -> pa.Table:
    """What `deeptune predict` writes for the images."""
    from typer.testing import CliRunner

    from deeptune.cli.app import app

    output = folder / "predicted.parquet"
    arguments = ["predict", str(of_images.run.path), "--data", str(images), "--output", str(output), "--device", "cpu"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return pq.read_table(output)


IMAGES = {
    "path": lambda file: file,
    "text of a path": str,
    "arrow": pq.read_table,
    "polars": pl.read_parquet,
    "pandas": lambda file: pd.DataFrame(pq.read_table(file).to_pydict()),
    "dictionary": lambda file: {"images": [pixels(row) for row in range(ROWS)]},
    "encoded": lambda file: pq.read_table(file)["images"].to_pylist(),
    "arrow column": lambda file: pq.read_table(file)["images"],
    "pandas series of arrays": lambda file: pd.Series([pixels(row) for row in range(ROWS)]),
    "arrays": lambda file: [pixels(row) for row in range(ROWS)],
    "one array": lambda file: np.stack([pixels(row) for row in range(ROWS)]),
    "PIL": lambda file: [Image.fromarray(pixels(row)) for row in range(ROWS)],
    "opened": lambda file: [Image.open(io.BytesIO(encoded(pixels(row)))) for row in range(ROWS)],
}


@pytest.mark.parametrize("kind", IMAGES)
def test_predictions_have_the_bits_of_the_command(of_images, images, commanded, kind):
    same(of_images.predict(IMAGES[kind](images)), commanded)


def test_names_of_files_start_at_the_folder_that_is_named(of_images, commanded, tmp_path, monkeypatch):
    names = [f"{row}.png" for row in range(ROWS)]
    for row, name in enumerate(names):
        (tmp_path / name).write_bytes(encoded(pixels(row)))
    same(of_images.predict(names, root=str(tmp_path)), commanded)
    same(of_images.predict([tmp_path / name for name in names]), commanded)
    monkeypatch.chdir(tmp_path)
    same(of_images.predict(np.array(names).reshape(-1, 1)), commanded)


def test_a_jpeg_that_pil_has_opened_is_read_as_from_its_file(of_images):
    files = [encoded(np.kron(pixels(row), np.ones((8, 8, 1), np.uint8)), "JPEG") for row in range(4)]
    same(of_images.predict([Image.open(io.BytesIO(file)) for file in files]), of_images.predict(files))


def test_an_image_keeps_its_orientation_and_its_opacity(of_images):
    image = Image.fromarray(np.concatenate([pixels(0), pixels(1)]))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "PNG", exif=exif)
    loaded = Image.open(io.BytesIO(out.getvalue()))
    loaded.load()
    same(of_images.predict([loaded]), of_images.predict([out.getvalue()]))
    faint = np.dstack([pixels(0), np.full((40, 40), 9, np.uint8)])
    same(of_images.predict([faint]), of_images.predict([encoded(faint)]))
    same(of_images.predict([Image.fromarray(faint)]), of_images.predict([faint]))


def test_embeddings_have_the_bits_of_the_command(of_images, images, tmp_path):
    of_images.write_embeddings(images, tmp_path / "out.parquet")
    written = np.stack(pq.read_table(tmp_path / "out.parquet")["embedding"].to_numpy())
    found = of_images.embed([pixels(row) for row in range(ROWS)])
    assert found.dtype == np.float32
    assert found.shape == (ROWS, of_images.width)
    assert np.array_equal(found, written.astype(np.float32))


TEXTS = {
    "path": lambda file: file,
    "list": lambda file: pq.read_table(file)["text"].to_pylist(),
    "array": lambda file: np.array(pq.read_table(file)["text"].to_pylist()),
    "pandas": lambda file: pd.DataFrame(pq.read_table(file).to_pydict()),
    "pandas series": lambda file: pd.Series(pq.read_table(file)["text"].to_pylist()),
    "polars": pl.read_parquet,
    "polars series": lambda file: pl.read_parquet(file)["text"],
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_in_any_form_give_the_same_bits(of_texts, texts, tmp_path, kind):
    of_texts.write_predictions(texts, tmp_path / "out.parquet")
    same(of_texts.predict(TEXTS[kind](texts)), pq.read_table(tmp_path / "out.parquet"))


def test_evaluation_takes_labels_beside_samples_or_in_a_table(of_texts, texts):
    table = pq.read_table(texts)
    found = of_texts.evaluate(texts)
    assert found["n"] == ROWS
    assert of_texts.evaluate(table) == found
    assert of_texts.evaluate(table["text"].to_pylist(), np.array(table["labels"].to_pylist())) == found
    assert of_texts.evaluate(pd.DataFrame(table.to_pydict())) == found


def test_a_bad_sample_is_an_error_that_names_its_row_or_an_empty_row(of_images, of_texts):
    broken = encoded(pixels(1))[:60]
    with pytest.raises(DataError, match="row 1: ") as caught:
        of_images.predict([pixels(0), broken])
    assert 'on_bad_sample = "skip"' in caught.value.hint
    assert "--" not in str(caught.value)
    table = of_images.predict([pixels(0), broken], on_bad_sample="skip")
    assert table["prediction"].is_null().to_pylist() == [False, True]
    assert table["error"].to_pylist()[0] is None
    assert np.isnan(of_texts.embed(["a", None, float("nan"), pd.NA], on_bad_sample="skip")).any(1).tolist() == [
        False, True, True, True,
    ]  # fmt: skip


def test_images_of_16_bits_need_a_range(of_images):
    deep = np.full((40, 40), 5000, np.uint16)
    with pytest.raises(DataError, match=r"row 0: has values of more than 8 bits \(5,000 to 5,000\)"):
        of_images.predict([deep])


BAD = {
    "float": (lambda: [pixels(0), pixels(1) / 255], r"x: row 1 is an array of float64 \(40, 40, 3\)"),
    "channels first": (lambda: [pixels(0).transpose(2, 0, 1)], r"x: row 0 is an array of uint8 \(3, 40, 40\)"),
    "number": (lambda: [pixels(0), 3], "x: row 1 is an int"),
    "mixed": (lambda: [pixels(0), "a.png"], "x: row 0 is an image and row 1 is the name of a file"),
    "one image": (lambda: pixels(0), r"x: an array of uint8 \(40, 40, 3\) is not a list of samples"),
    "PIL": (lambda: Image.fromarray(pixels(0)), "x: expected a path, .* got an Image"),
    "one image in a dictionary": (
        lambda: {"images": pixels(0)},
        r"x: an array of uint8 \(40, 40, 3\) is not a list of samples",
    ),
    "one file": (lambda: "a.png", "x: a.png is one image, and a path is that of a table or folder"),
    "open file": (lambda: io.BytesIO(b"x"), "x: expected a path, .* got a BytesIO"),
    "other columns": (lambda: {"image": [pixels(0)]}, r"x: there is no column 'images'. Did you mean 'image'"),
    "twice": (lambda: pd.DataFrame([[1, 2]], columns=["images", "images"]), "x: there are two columns named 'images'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_error_that_names_argument_and_row(of_images, kind):
    make, message = BAD[kind]
    with pytest.raises(DataError, match=message):
        of_images.predict(make())


def test_labels_may_be_a_table_or_array_of_one_column(of_texts):
    for y in (
        pd.DataFrame({"any": ["good", "bad"]}),
        np.array([["good"], ["bad"]]),
        pa.table({"labels": ["good", "bad"]}),
    ):
        assert of_texts.evaluate(["a good film", "a bad film"], y)["n"] == 2


def test_bad_labels_are_errors_that_name_the_argument(of_texts, texts):
    with pytest.raises(DataError, match="y: 1 label "):
        of_texts.evaluate(["a", "b"], ["good"])
    for y in ({"label": ["good"], "other": ["bad"]}, pd.DataFrame({"a": ["good"], "b": ["bad"]})):
        with pytest.raises(DataError, match="y: there is no column 'labels'"):
            of_texts.evaluate(["a"], y)
    with pytest.raises(DataError, match="y: 1 of 2 labels in column 'labels' are missing"):
        of_texts.evaluate(["a", "b"], ["good", None])
    with pytest.raises(DataError, match="x: there are no rows to score"):
        of_texts.evaluate([], [])
    with pytest.raises(DataError, match="there is no file or folder a good film") as raised:
        of_texts.predict("a good film")
    assert "One text goes into a list: [x]." in str(raised.value)
    with pytest.raises(DataError, match="y: there are no labels"):
        of_texts.evaluate(["a", "b"])
    with pytest.raises(DataError, match="y: the labels of a file are in the file"):
        of_texts.evaluate(texts, ["good"])
    with pytest.raises(DataError, match="does not occur in the training"):
        of_texts.evaluate(["a", "b"], ["good", "best"])
    with pytest.raises(DataError, match="x: row 1 is a float"):
        of_texts.predict(["a", 1.5])
    with pytest.raises(DataError, match=r"x: row 1 holds half a character \('\\ud800'\)"):
        of_texts.predict(["a", "b\ud800c"])
    with pytest.raises(DataError, match="x: a set has no order"):
        of_texts.predict({"a", "b"})


def test_an_unknown_option_or_value_is_an_error(of_texts):
    with pytest.raises(SpecError, match=r"no option 'batchsize'. Did you mean 'batch_size'"):
        of_texts.predict(["a"], batchsize=3)
    with pytest.raises(SpecError, match="on_bad_sample: expected 'skip' or 'error', got 'ignore'"):
        of_texts.predict(["a"], on_bad_sample="ignore")
    for name, value in (("batch_size", "8"), ("batch_size", 1.5), ("abstain_below", "0.5"), ("coverage", [0.9])):
        with pytest.raises(SpecError, match=rf"{name}: expected .*, got "):
            of_texts.predict(["a"], **{name: value})


def test_no_row_is_a_table_without_rows(of_texts):
    assert of_texts.predict([]).num_rows == 0
    assert of_texts.embed([]).shape == (0, of_texts.width)


def test_the_module_gives_the_logits_of_the_predictions(of_images):
    module = of_images.torch_module()
    assert isinstance(module, torch.nn.Module)
    assert not module.training
    assert repr(of_images).endswith("resnet18, partial, classification, 2 classes, on cpu)")
    assert of_images.classes == ("blue", "red")
    logits = module({"images": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)})
    assert logits.shape == (2, 2)


def test_a_few_rows_in_memory_leave_no_entry_in_the_cache(of_images, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    of_images.predict([pixels(0)])
    assert not list(tmp_path.glob("cache/*/*"))
    of_images.predict([pixels(row) for row in range(64)])
    assert len(list(tmp_path.glob("cache/features/*"))) == 1
