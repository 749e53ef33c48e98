"""Commands on stored features: predict, embed, evaluate, and those that list and clear the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from devices import DEVICE
from feature_runs import BLOCK, ROWS, entries, online

from deeptune.data.sources.parquet import open_source
from deeptune.engine.predict import ApplyOptions, Embedder, Predictor


def applied(folder, directory, data, **options) -> tuple[pa.Table, pa.Table, dict]:
    """What predict, embed and evaluate give."""
    predictor, source, how = Predictor(directory, device=DEVICE), open_source(data), ApplyOptions(**options)
    predictor.write_predictions(source, folder / "predictions.parquet", how)
    predictor.write_embeddings(source, folder / "embeddings.parquet", how)
    metrics, _ = predictor.evaluate(source, how)
    return pq.read_table(folder / "predictions.parquet"), pq.read_table(folder / "embeddings.parquet"), metrics


def same_outputs(one: tuple[pa.Table, pa.Table, dict], other: tuple[pa.Table, pa.Table, dict]) -> None:
    for left, right, numbers in zip(one[:2], other[:2], ("probabilities", "embedding"), strict=True):
        rounded = [name for name in (numbers, "confidence", "expected_error") if name in left.column_names]
        assert left.drop_columns(rounded).equals(right.drop_columns(rounded))
        assert left[numbers].is_null().equals(right[numbers].is_null())
        values = [np.array(table[numbers].drop_null().to_pylist()) for table in (left, right)]
        assert np.abs(values[0] - values[1]).max() < 1e-5
    assert one[2]["loss"] == pytest.approx(other[2]["loss"], abs=1e-5)
    assert one[2]["confusion_matrix"] == other[2]["confusion_matrix"]


@pytest.mark.parametrize("modality", ["image", "text"])
def test_commands_on_the_data_of_a_run_pass_no_row_and_give_its_numbers(
    request, run, monkeypatch, cache_folder, passed, tmp_path, modality
):
    spec = request.getfixturevalue(f"{modality}_spec")(head={"layers": 2, "embedding_size": 8})
    directory = run(spec)
    assert passed() == ROWS
    told: list[str] = []
    stored = applied(tmp_path, directory, spec.data.path, notify=told.append)
    assert passed() == 0
    assert f"the features of all {ROWS} rows were in the cache: no row passes the frozen backbone" in told
    written = pq.read_table(directory.predictions)
    mine = np.array(stored[0].take(written["row"])["probabilities"].to_pylist())
    assert np.abs(mine - np.array(written["probabilities"].to_pylist())).max() < 1e-5

    if DEVICE == "cpu":  # a GPU embeds in a precision of its own, and this run has fp32
        plain = Embedder(spec.backbone, device=DEVICE)
        plain.write_embeddings(open_source(spec.data.path), tmp_path / "plain.parquet", ApplyOptions())
        assert passed() == 0
    online(monkeypatch, cache_folder)
    recomputed = applied(tmp_path, directory, spec.data.path, notify=told.append, batch_size=BLOCK)
    assert passed() == 3 * ROWS
    assert any("features are not stored for next time, because" in said for said in told)
    same_outputs(stored, recomputed)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_features_of_another_file_are_stored_for_the_next_command(
    request, run, monkeypatch, cache_folder, passed, tmp_path, modality
):
    spec = request.getfixturevalue(f"{modality}_spec")()
    directory = run(spec)
    passed()
    table = pq.read_table(spec.data.path).slice(10, 105)
    column = "images" if modality == "image" else "text"
    values = table[column].to_pylist()
    values[7] = b"no image" if modality == "image" else ""
    table = table.set_column(table.column_names.index(column), column, pa.array(values, table[column].type))
    pq.write_table(table, tmp_path / "new.parquet")
    cold = applied(tmp_path, directory, str(tmp_path / "new.parquet"))
    assert passed() == 105
    assert np.flatnonzero(cold[1]["embedding"].is_null()).tolist() == [7]
    assert cold[2]["n"] == 104
    warm = applied(tmp_path, directory, str(tmp_path / "new.parquet"))
    assert passed() == 0
    for one, other in zip(cold, warm, strict=True):
        assert one == other
    online(monkeypatch, cache_folder)
    same_outputs(cold, applied(tmp_path, directory, str(tmp_path / "new.parquet")))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_backbone_that_was_trained_shares_no_features(run, image_spec, passed, tmp_path, method):
    directory = run(image_spec(tuning={"method": method}, train={"epochs": 1, "start": "random"}))
    passed()
    applied(tmp_path, directory, image_spec().data.path, batch_size=BLOCK)
    assert passed() == 3 * ROWS
    assert entries() == []


def test_the_commands_list_and_clear(run, image_spec, command, monkeypatch, tmp_path):
    empty = command("cache", "list")
    assert empty.code == 0
    assert "is empty" in empty.stdout
    run(image_spec())
    run(image_spec(backbone={**image_spec().backbone.model_dump(), "image_size": 64}))
    listed = json.loads(command("cache", "list", "--json").stdout)
    kinds = sorted((entry["rows"], entry["width"] or 0, entry["complete"]) for entry in listed["entries"])
    assert kinds == [(ROWS, 0, True)] * 2 + [(ROWS, 96, True)] * 2  # samples, features
    assert listed["bytes"] == sum(entry["bytes"] for entry in listed["entries"])
    assert listed["limit"] == 20 * 10**9
    first, second = (entry["key"] for entry in listed["entries"] if entry["width"])
    shown = command("cache", "list").stdout
    assert first[:12] in shown
    assert "test_resnet, 64 px" in shown
    assert "decoded images, 64 px: images.parquet (images)" in shown
    assert "of at most 20.0 GB" in shown
    assert command("cache", "clear", "nokey").code == 2
    assert "removed 0 entries" in command("cache", "clear", "--older-than", "1").stdout
    assert "removed 1 entry" in command("cache", "clear", second[:8]).stdout
    assert [entry.key for entry in entries()] == [first]
    os.utime(entries()[0].folder / "entry.json", (1e9, 1e9))
    assert "removed 1 entry" in command("cache", "clear", "--older-than", "1").stdout
    assert entries() == []


def test_the_commands_load_no_pytorch(environment):
    code = (
        "import sys\nfrom deeptune.cli.app import run_command\n"
        "for command in ('list', 'clear'):\n"
        "    sys.argv = ['deeptune', 'cache', command]\n    assert run_command() == 0\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'transformers'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**environment, "DEEPTUNE_CACHE": os.environ["DEEPTUNE_CACHE"]}, check=True
    )
