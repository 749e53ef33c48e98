"""Whole runs on tiny models: the files they leave, and that these agree with each other and with scikit-learn."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from devices import DEVICE, ON_DEVICE
from image_runs import image_spec, run
from safetensors.torch import load_file
from scipy.stats import spearmanr
from sklearn import metrics as sk

from deeptune.data.sources.parquet import open_source
from deeptune.engine.predict import ApplyOptions, Predictor
from deeptune.engine.run import execute
from deeptune.engine.trained_model import load_run
from deeptune.errors import CheckpointError
from deeptune.runs import RunDirectory, new_run_directory, read_records
from deeptune.runs.looks import read_looks
from deeptune.spec import load_spec
from deeptune.spec.run_spec import SPLITS
from deeptune.spec.toml import validate

CPU = torch.device(DEVICE)


def text_spec(folder, method: str = "partial", task: str = "classification", **train) -> dict:
    return {
        "task": task,
        "data": {
            "path": "sample:movie_snippets",
            "label": "labels" if task == "classification" else "score",
            "split": {"train": 0.1, "val": 0.05, "test": 0.85},
        },
        "backbone": {"name": f"hf:{folder}", "max_length": 32},
        "head": {"layers": 2, "embedding_size": 12},
        "tuning": {"method": method},
        "train": {"epochs": 2, **ON_DEVICE, **train},
    }


def messages(run: RunDirectory) -> str:
    return "\n".join(str(event["message"]) for event in read_records(run.events) if "message" in event)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, review_bert):
    """A finished run for (modality, method, task), made once."""
    made: dict[tuple[str, str, str], RunDirectory] = {}

    def get(modality: str, method: str, task: str) -> RunDirectory:
        key = (modality, method, task)
        if key not in made:
            spec = image_spec(method, task) if modality == "image" else text_spec(review_bert, method, task)
            made[key] = run(spec, tmp_path_factory.mktemp("runs"))
        return made[key]

    return get


HEAD_FILES = ("manifest.json", "head.safetensors", "training.safetensors")
CASES = list(itertools.product(("image", "text"), ("partial", "full", "lora"), ("classification", "regression")))


@pytest.mark.parametrize(("modality", "method", "task"), CASES)
def test_a_run_leaves_exactly_these_files(finished, modality, method, task):
    directory = finished(modality, method, task)
    weights = {"partial": ["head"], "full": ["model"], "lora": ["adapter", "head"]}[method]
    checkpoint = {"manifest.json", *(f"{part}.safetensors" for part in weights)}
    expected = {
        "spec.toml", "run.json", "events.jsonl", "status.json", "splits.parquet", "labels.json", "metrics.json",
        "predictions.parquet", "learnt_hashes.parquet", "test_hashes.parquet", "test_looks.jsonl", "report.html",
        "report.json", "result.json",
        *(f"embeddings/{split}.parquet" for split in ("train", "val", "test")),
        *(f"checkpoints/{which}/{file}" for which in ("best", "last") for file in checkpoint),
        "checkpoints/last/training.safetensors",
        *(f"checkpoints/head/{file}" for file in HEAD_FILES if method != "partial"),
    }  # fmt: skip
    found = {str(path.relative_to(directory.path)) for path in directory.path.rglob("*") if path.is_file()}
    backbone_files = {name for name in found if name.startswith("backbone/")}
    assert found - backbone_files == expected
    assert bool(backbone_files) == (modality == "text")
    result = json.loads(directory.result.read_text())
    assert result["state"] == "done"
    assert all((directory.path / path).exists() for path in result["artefacts"].values())
    kinds = {event["kind"] for event in read_records(directory.events)}
    assert {"run", "phase", "start", "step", "epoch", "checkpoint", "metrics", "end"} <= kinds
    assert json.loads(directory.status.read_text())["state"] == "done"


@pytest.mark.parametrize(("modality", "method", "task"), CASES)
def test_the_resolved_spec_has_no_auto_left_and_gives_the_same_spec_back(finished, modality, method, task):
    directory = finished(modality, method, task)
    values = load_spec(directory.spec).model_dump()
    lora = values["tuning"].pop("lora")
    other_modality = "max_length" if modality == "image" else "image_size"
    assert values["backbone"].pop(other_modality) == "auto"
    assert values.pop("calibration")["method"] == "auto"  # which val decides, once the model is trained
    assert "auto" not in json.dumps(values)
    if method == "lora":
        assert isinstance(lora["rank"], int)
        assert lora["alpha"] == 2 * lora["rank"]


@pytest.mark.parametrize(("modality", "method"), itertools.product(("image", "text"), ("partial", "full", "lora")))
def test_metrics_of_classes_are_scikit_learns_on_the_written_predictions(finished, modality, method):
    directory = finished(modality, method, "classification")
    table = pq.read_table(directory.predictions)
    truth, prediction = table["truth"].to_pylist(), table["prediction"].to_pylist()
    chances = np.array(table["probabilities"].to_pylist())
    classes = json.loads(directory.labels.read_text())["values"]
    found = json.loads(directory.metrics.read_text())["test"]
    assert found["n"] == len(truth)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, prediction), abs=1e-6)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, prediction), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(
        sk.f1_score(truth, prediction, average="macro", labels=classes, zero_division=0), abs=1e-6
    )
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth, chances, labels=classes), abs=1e-6)
    expected = (
        sk.roc_auc_score(truth, chances[:, 1])
        if len(classes) == 2
        else sk.roc_auc_score(truth, chances, multi_class="ovr", labels=classes)
    )
    assert found["roc_auc"] == pytest.approx(expected, abs=1e-6)
    assert found["confusion_matrix"] == sk.confusion_matrix(truth, prediction, labels=classes).tolist()
    assert [classes[i] for i in chances.argmax(1)] == prediction
    assert table["confidence"].to_pylist() == pytest.approx(chances.max(1).tolist())


@pytest.mark.parametrize(("modality", "method"), itertools.product(("image", "text"), ("partial", "full", "lora")))
def test_metrics_of_numbers_are_scikit_learns_in_the_original_unit(finished, modality, method):
    directory = finished(modality, method, "regression")
    table = pq.read_table(directory.predictions)
    truth, prediction = table["truth"].to_numpy(), table["prediction"].to_numpy()
    source = open_source("sample:digits_rotation" if modality == "image" else "sample:movie_snippets")
    column = source.column("labels" if modality == "image" else "score").to_numpy()
    assert np.array_equal(truth, column[table["row"].to_numpy()])  # as in the file, not rounded, not standardised
    found = json.loads(directory.metrics.read_text())["test"]
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, prediction), abs=1e-6)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, prediction), abs=1e-6)
    assert found["r2"] == pytest.approx(sk.r2_score(truth, prediction), abs=1e-6)
    assert found["spearman"] == pytest.approx(spearmanr(truth, prediction).statistic, abs=1e-6)


@pytest.mark.parametrize(("modality", "method", "task"), CASES)
def test_the_stored_model_gives_the_predictions_and_embeddings_of_the_run(
    finished, modality, method, task, tmp_path, monkeypatch
):
    """A model built from nothing but the run directory, over the source again: the same numbers, in order."""
    directory = finished(modality, method, task)
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "0")  # with no help from what the run stored
    predictor, options = Predictor(directory, device=DEVICE), ApplyOptions()
    source = open_source(predictor.spec.data.path)
    predictor.write_predictions(source, tmp_path / "predictions.parquet", options)
    again = pq.read_table(tmp_path / "predictions.parquet")
    written = pq.read_table(directory.predictions)
    rows = written["row"].to_numpy()
    assert again["row"].to_pylist() == list(range(again.num_rows))
    if task == "classification":
        found = np.array(again["probabilities"].to_pylist())[rows]
        assert np.allclose(found, np.array(written["probabilities"].to_pylist()), atol=2e-5)
    else:
        spread = np.std(written["truth"].to_numpy())
        assert np.allclose(again["prediction"].to_numpy()[rows], written["prediction"].to_numpy(), atol=1e-4 * spread)
    predictor.write_embeddings(source, tmp_path / "embeddings.parquet", options)
    embeddings = pq.read_table(tmp_path / "embeddings.parquet")
    for split in ("train", "val", "test"):
        stored = pq.read_table(directory.embeddings(split))
        assert pa.types.is_fixed_size_list(stored.schema.field("embedding").type)
        assert stored.schema.field("embedding").type.value_type == pa.float32()
        at = stored["row"].to_numpy()
        assert (np.diff(at) > 0).all()
        vectors = np.stack(stored["embedding"].to_numpy(zero_copy_only=False))
        assert np.allclose(np.stack(embeddings["embedding"].to_numpy(zero_copy_only=False))[at], vectors, atol=2e-4)
        if split == "test":
            logits = predictor.model.last_layer(torch.from_numpy(vectors)).detach().numpy()
            if task == "classification":
                values = predictor.task.decode(logits.argmax(1)).to_pylist()
                assert values == written["prediction"].to_pylist()


@pytest.mark.parametrize(("modality", "method"), itertools.product(("image", "text"), ("partial", "full", "lora")))
def test_two_runs_of_a_spec_give_the_same_bits(tmp_path, finished, review_bert, modality, method):
    first = finished(modality, method, "classification")
    spec = image_spec(method) if modality == "image" else text_spec(review_bert, method)
    second = run(spec, tmp_path, report=False)
    for which in ("best", "last"):
        for file in sorted((first.path / "checkpoints" / which).glob("*.safetensors")):
            one, two = load_file(file), load_file(second.path / "checkpoints" / which / file.name)
            assert one.keys() == two.keys()
            assert all(torch.equal(one[name], two[name]) for name in one)
    assert pq.read_table(first.predictions).equals(pq.read_table(second.predictions))
    assert pq.read_table(first.splits).equals(pq.read_table(second.splits))
    assert pq.read_table(first.embeddings("test")).equals(pq.read_table(second.embeddings("test")))


def test_another_seed_gives_another_run(tmp_path, finished):
    other = run(image_spec(seed=7), tmp_path, report=False)
    assert not pq.read_table(finished("image", "partial", "classification").splits).equals(pq.read_table(other.splits))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_stored_features_train_the_head_that_recomputed_features_train(tmp_path, task, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    stored = run(image_spec(task=task, epochs=4), tmp_path, report=False)
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "0")
    monkeypatch.setattr("deeptune.engine.feature_extraction.MEMORY_SHARE", 0.0)
    recomputed = run(image_spec(task=task, epochs=4), tmp_path, report=False)
    losses = [
        [event[split]["loss"] for event in read_records(r.events) if event["kind"] == "epoch" for split in SPLITS[:2]]
        for r in (stored, recomputed)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert "the head trains on their features" in messages(stored)
    assert "the frozen backbone passes each epoch, because" in messages(recomputed)


def hashes(directory):
    return pq.read_table(directory.test_hashes)["hash"].to_pylist()


def test_evaluate_gives_the_metrics_of_the_run_on_its_own_test_rows(finished, tmp_path):
    directory = finished("text", "lora", "classification")
    rows = pq.read_table(directory.predictions)["row"]
    file = tmp_path / "test.parquet"
    pq.write_table(pq.read_table(open_source("sample:movie_snippets").files[0]).take(rows), file)
    before = read_looks(directory)
    found, _ = Predictor(directory, device=DEVICE).evaluate(open_source(file), ApplyOptions())
    expected = json.loads(directory.metrics.read_text())["test"]
    # The rows are recognised in another file, and the run has looked at them once itself.
    assert [(look.by, look.rows) for look in before[:1]] == [("run", len(rows))]
    later = [(look.by, look.rows) for look in read_looks(directory)[len(before) :]]
    assert later == [("evaluate", len(set(hashes(directory))))]
    for name in ("accuracy", "macro_f1", "n"):
        assert found[name] == pytest.approx(expected[name])
    for name in ("loss", "log_loss", "roc_auc", "ece"):
        assert found[name] == pytest.approx(expected[name], abs=1e-5)


def test_a_run_is_refused_when_its_backbone_is_not_the_one_it_was_trained_on(finished, tmp_path, review_bert):
    import shutil

    from safetensors.torch import save_file

    moved = tmp_path / "bert"
    shutil.copytree(review_bert, moved)
    directory = run(text_spec(moved, epochs=1), tmp_path, report=False)
    weights = load_file(moved / "model.safetensors")
    first = next(name for name in sorted(weights) if name.endswith("query.weight"))
    weights[first][0, 0] += 1
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not the one this run was trained on"):
        load_run(directory, device=CPU)


def test_a_damaged_checkpoint_is_refused(tmp_path, finished):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished("image", "full", "classification").path, copy)
    directory = RunDirectory(copy)
    file = directory.best / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_run(directory, device=CPU)
    file.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load_run(directory, device=CPU)


def test_a_checkpoint_that_does_not_read_back_as_it_was_fails_the_run(tmp_path, monkeypatch):
    from deeptune.engine import trained_model

    load = trained_model.load_checkpoint

    def tampered(folder):
        checkpoint = load(folder)
        checkpoint.state["head.last_layer.bias"] += 1e-6
        return checkpoint

    monkeypatch.setattr(trained_model, "load_checkpoint", tampered)
    directory = new_run_directory(tmp_path, "test")
    with pytest.raises(CheckpointError, match="not the trained one"):
        execute(validate(image_spec()), directory)
    assert json.loads(directory.result.read_text())["state"] == "failed"
    assert not directory.metrics.exists()


def test_files_apart_keep_their_own_row_numbers_and_groups_never_cross(tmp_path):
    table = pq.read_table(open_source("sample:openclipart7").files[0])
    table = table.append_column("patient", pa.array([row // 3 for row in range(table.num_rows)]))
    pq.write_table(table.slice(0, 300), tmp_path / "train.parquet")
    pq.write_table(table.slice(300, 100), tmp_path / "test.parquet")
    spec = image_spec()
    spec["data"] = {
        "train": str(tmp_path / "train.parquet"),
        "test": str(tmp_path / "test.parquet"),
        "group": "patient",
    }
    directory = run(spec, tmp_path, report=False)
    assert pq.read_table(directory.predictions)["row"].to_pylist() == list(range(100))
    splits = pq.read_table(directory.splits).to_pylist()
    by_split = {split: {row["group"] for row in splits if row["split"] == split} for split in ("train", "val", "test")}
    assert not by_split["train"] & by_split["val"]
    kept = pq.read_table(directory.embeddings("test"))
    assert kept.column_names == ["row", "label", "embedding", "patient"]
    assert kept["patient"].to_pylist() == table.slice(300, 100)["patient"].to_pylist()
