"""Runs on images that are not 8-bit bytes in the file: deep grey, files that a column names, base64."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png
from PIL import Image

from deeptune.spec import load_spec

pytestmark = pytest.mark.usefixtures("no_reports")

ROWS = 40
SMALL = [
    "--set", "backbone.name=resnet18", "--set", "backbone.weights=random", "--set", "backbone.image_size=32",
    "--set", "train.epochs=1", "--set", "train.batch_size=8", "--set", "train.device=cpu", "--foreground", "--plain",
]  # fmt: skip


def encoded(values: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind)
    return stream.getvalue()


def detector(row: int, high: int = 4095) -> np.ndarray:
    """A 12-bit picture, uint16 (36, 36); odd rows have a spot that is a little brighter."""
    values = np.random.default_rng(row).integers(0, high + 1, (36, 36))
    values[8:24, 8:24] += 600 * (row % 2)
    return np.clip(values, 0, high).astype(np.uint16)


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The 8-bit picture that a range makes of values, by numpy alone."""
    clipped = np.minimum(np.maximum(values.astype(float), low), high)
    return np.rint((clipped - low) * 255 / (high - low)).astype(np.uint8)


def write(file: Path, images: object, **columns: object) -> Path:
    labels = [("plain", "spot")[row % 2] for row in range(ROWS)]
    pq.write_table(pa.table({"images": images, "labels": labels, **columns}), file)
    return file


def trained(command, data: Path, name: str, *more: str) -> Path:
    answer = command("run", "--data", str(data), "--output", name, *SMALL, *more)
    assert answer.code == 0, answer
    return next(Path(name).iterdir())


def embeddings(file: Path) -> np.ndarray:
    return np.array(pq.read_table(file).column("embedding").to_pylist(), np.float32)


def of_run(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """(rows, embeddings) of all splits."""
    tables = [pq.read_table(run / "embeddings" / f"{split}.parquet") for split in ("train", "val", "test")]
    whole = pa.concat_tables(table.select(["row", "embedding"]) for table in tables).sort_by("row")
    return whole["row"].to_numpy(), np.array(whole["embedding"].to_pylist(), np.float32)


def messages(run: Path) -> str:
    events = (json.loads(line) for line in (run / "events.jsonl").read_text().splitlines())
    return "\n".join(event["message"] for event in events if event["kind"] in ("message", "warning"))


@pytest.fixture
def deep(command, tmp_path: Path) -> tuple[Path, Path]:
    """(run, data) of pictures of 12 bits in PNG of 16."""
    data = write(tmp_path / "deep.parquet", [encoded(detector(row)) for row in range(ROWS)])
    return trained(command, data, "deep"), data


def test_a_run_on_deep_grey_finds_one_range_and_every_command_uses_it(command, deep, tmp_path):
    run, data = deep
    assert load_spec(run / "spec.toml").data.value_range == [0, 4095]
    assert json.loads((run / "checkpoints/best/manifest.json").read_text())["preprocessing"]["value_range"] == [0, 4095]
    assert "values 0 to 4,095 (12 bits) become grey levels 0 to 255 (found on the training rows)" in messages(run)

    # The same pictures, scaled to 8 bits by numpy, give the same features without any range.
    known = write(tmp_path / "known.parquet", [encoded(scaled(detector(row), 0, 4095)) for row in range(ROWS)])
    for name, file in (("deep.out", data), ("known.out", known)):
        assert command("embed", str(run), "--data", str(file), "--output", name).code == 0
    rows, own = of_run(run)
    assert np.array_equal(embeddings("deep.out"), embeddings("known.out"))
    assert np.array_equal(own, embeddings("deep.out")[rows])

    assert command("predict", str(run), "--data", str(data), "--output", "predictions").code == 0
    theirs = pq.read_table(run / "predictions.parquet")
    mine = pq.read_table("predictions").take(theirs["row"])
    assert mine["prediction"].to_pylist() == theirs["prediction"].to_pylist()
    answer = command("evaluate", str(run), "--data", str(data), "--json")
    assert json.loads(answer.stdout.splitlines()[-1])["n"] == ROWS


def test_a_file_with_other_values_is_clipped_to_the_range_of_the_run(command, deep, tmp_path):
    run, _ = deep
    other = write(tmp_path / "other.parquet", [encoded(detector(row, 9000 if row < 3 else 900)) for row in range(ROWS)])
    answer = command("embed", str(run), "--data", str(other), "--output", "out")
    assert f"3 of {ROWS} rows have values outside of 0 to 4,095 (12 bits), which are clipped" in answer.stderr
    pictures = [encoded(scaled(detector(row, 9000 if row < 3 else 900), 0, 4095)) for row in range(ROWS)]
    known = write(tmp_path / "known.parquet", pictures)
    assert command("embed", str(run), "--data", str(known), "--output", "known").code == 0
    assert np.array_equal(embeddings("out"), embeddings("known"))


def test_the_range_comes_from_the_training_rows_alone(command, tmp_path):
    for split, high in (("train", 1000), ("val", 3000), ("test", 60_000)):
        write(tmp_path / f"{split}.parquet", [encoded(detector(row, high)) for row in range(ROWS)])
    files = [part for split in ("val", "test") for part in ("--set", f"data.{split}={tmp_path / split}.parquet")]
    train = ["--set", f"data.train={tmp_path / 'train.parquet'}"]
    answer = command("run", *train, *files, "--output", "run", *SMALL)
    assert answer.code == 0, answer
    run = next(Path("run").iterdir())
    assert load_spec(run / "spec.toml").data.value_range == [0, 1023]
    said = "rows with values outside of 0 to 1,023 (10 bits), which are clipped: 40 of 40 in val, 40 of 40 in test"
    assert said in messages(run)


def test_a_given_range_is_a_window_and_another_entry_of_the_cache(command, deep, tmp_path):
    run, data = deep
    window = trained(command, data, "window", "--set", "data.value_range=[1000, 2000]")
    assert load_spec(window / "spec.toml").data.value_range == [1000, 2000]
    rows, own = of_run(window)
    assert not np.array_equal(own, of_run(run)[1])
    known = write(tmp_path / "known.parquet", [encoded(scaled(detector(row), 1000, 2000)) for row in range(ROWS)])
    assert command("embed", str(window), "--data", str(known), "--output", "known").code == 0
    assert np.array_equal(own, embeddings("known")[rows])


def test_a_later_run_on_deep_grey_decodes_nothing(command, deep):
    run, data = deep
    again = trained(command, data, "again")
    said = messages(again)
    assert f"all {ROWS} samples were in the cache: none is decoded again" in said
    assert "no row passes the frozen backbone" in said
    assert np.array_equal(of_run(again)[1], of_run(run)[1])


def test_a_run_on_8_bits_takes_no_deep_image(command, tmp_path):
    data = write(tmp_path / "plain.parquet", [encoded(scaled(detector(row), 0, 4095)) for row in range(ROWS)])
    run = trained(command, data, "plain")
    assert load_spec(run / "spec.toml").data.value_range == "none"
    assert "bits" not in messages(run)
    deep = write(tmp_path / "deep.parquet", [encoded(detector(row)) for row in range(ROWS)])
    answer = command("predict", str(run), "--data", str(deep), "--output", "out", "--on-bad-sample", "error")
    assert answer.code == 3
    assert "has values of more than 8 bits (" in answer.stderr
    assert "neither the training images nor data.value_range give a range" in answer.stderr


def test_a_plain_backbone_finds_the_range_on_its_file_or_is_given_one(command, tmp_path):
    file = write(tmp_path / "deep.parquet", [encoded(detector(row)) for row in range(ROWS)])
    known = write(tmp_path / "known.parquet", [encoded(scaled(detector(row), 0, 4095)) for row in range(ROWS)])
    wide = write(tmp_path / "wide.parquet", [encoded(scaled(detector(row), 0, 65535)) for row in range(ROWS)])
    embed = ["embed", "--backbone", "resnet18", "--weights", "random", "--image-size", "32", "--data"]
    answer = command(*embed, str(file), "--output", "found")
    assert "0 to 4,095 (12 bits), found on all rows, become grey levels 0 to 255" in answer.stderr
    command(*embed, str(known), "--output", "known")
    assert np.array_equal(embeddings("found"), embeddings("known"))
    command(*embed, str(file), "--value-range", "0", "65535", "--output", "given")
    command(*embed, str(wide), "--output", "wide")
    assert np.array_equal(embeddings("given"), embeddings("wide"))


def test_bad_rows_of_deep_grey_are_skipped_before_the_range_is_found(command, tmp_path):
    images = [encoded(detector(row)) for row in range(ROWS)]
    images[3], images[8] = b"damaged", encoded(np.full((8, 8), 65535, np.uint16))[:45]
    data = write(tmp_path / "deep.parquet", pa.array(images, pa.binary()))
    run = trained(command, data, "run", "--set", "data.on_bad_sample=skip")
    assert load_spec(run / "spec.toml").data.value_range == [0, 4095]
    assert {one["row"] for one in json.loads((run / "result.json").read_text())["skipped"]} == {3, 8}


# --- files that a column names ------------------------------------------------------------------------------------


def picture(row: int) -> bytes:
    return png(40, 30, ((200, 30 + row, 30), (30, 30 + row, 200))[row % 2])


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Names of picture files, relative to the folder of the Parquet files."""
    (tmp_path / "pictures").mkdir()
    for row in range(ROWS):
        (tmp_path / f"pictures/{row}.png").write_bytes(picture(row))
    return [f"pictures/{row}.png" for row in range(ROWS)]


@pytest.mark.parametrize("shape", ["strings", "structs", "paths", "base64", "uris", "bytes"])
def test_features_come_from_the_files_that_a_column_names(command, tmp_path, pictures, shape):
    """Whatever the column holds, a run's embeddings are those of the encoded pictures themselves."""
    text = [base64.b64encode(picture(row)).decode() for row in range(ROWS)]
    columns = {
        "strings": pa.array(pictures),
        "structs": pa.array([{"bytes": None, "path": name} for name in pictures]).cast(
            pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        ),
        "paths": pa.array([{"path": name} for name in pictures]),
        "base64": pa.array(text),
        "uris": pa.array([f"data:image/png;base64,{one}" for one in text]),
        "bytes": pa.array([name.encode() for name in pictures]),
    }
    run = trained(command, write(tmp_path / "named.parquet", columns[shape]), "run")
    assert load_spec(run / "spec.toml").data.modality == "image"
    held = write(tmp_path / "held.parquet", [picture(row) for row in range(ROWS)])
    assert command("embed", str(run), "--data", str(held), "--output", "held").code == 0
    rows, own = of_run(run)
    assert np.array_equal(own, embeddings("held")[rows])


def test_names_start_at_data_root_and_a_column_of_any_name_is_inferred(command, tmp_path, pictures):
    (tmp_path / "tables").mkdir()
    table = pa.table({"file": pictures, "labels": ["a", "b"] * (ROWS // 2)})
    pq.write_table(table, tmp_path / "tables/data.parquet")
    options = ["--set", "data.input=file", "--set", "data.root=."]
    run = trained(command, tmp_path / "tables/data.parquet", "run", *options)
    spec = load_spec(run / "spec.toml").data
    assert (spec.modality, spec.root) == ("image", str(tmp_path))
    answer = command("predict", str(run), "--data", "tables/data.parquet", "--output", "out")
    assert answer.code == 0
    assert None not in pq.read_table("out")["prediction"].to_pylist()
    answer = command("predict", str(run), "--data", "tables/data.parquet", "--root", "tables", "--output", "none")
    assert pq.read_table("none")["prediction"].to_pylist() == [None] * ROWS


def test_missing_files_are_told_with_their_rows_and_may_be_left_out(command, tmp_path, pictures):
    for row in (3, 7):
        (tmp_path / pictures[row]).unlink()
    data = write(tmp_path / "named.parquet", pictures)
    answer = command("run", "--data", str(data), "--output", "run", *SMALL)
    assert answer.code == 3
    assert f"2 of {ROWS} samples in column 'images' cannot be used" in answer.stderr
    assert "row 3 names the file pictures/3.png, which does not exist in" in answer.stderr
    assert "data.root" in answer.stderr
    run = trained(command, data, "skipped", "--set", "data.on_bad_sample=skip")
    assert {one["row"] for one in json.loads((run / "result.json").read_text())["skipped"]} == {3, 7}


def test_a_changed_file_makes_other_features_and_is_no_data_to_resume_with(command, tmp_path, pictures):
    data = write(tmp_path / "named.parquet", pictures)
    first = trained(command, data, "first")
    (tmp_path / pictures[5]).write_bytes(picture(6))
    second = trained(command, data, "second")
    prints = [json.loads((run / "run.json").read_text())["fingerprints"]["data"] for run in (first, second)]
    assert prints[0] != prints[1]
    (rows, before), (_, after) = of_run(first), of_run(second)
    assert rows[(before != after).any(axis=1)].tolist() == [5]
    (first / "result.json").unlink()
    answer = command("resume", str(first), "--foreground", "--plain")
    assert answer.code == 3
    assert "the contents of its files changed" in answer.stderr
