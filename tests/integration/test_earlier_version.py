"""Runs that an earlier version left behind: the finished one can be used, and the stopped one comes to its end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from deeptune.checkpoint import load_checkpoint
from deeptune.data.sources.parquet import open_source
from deeptune.engine.predict import ApplyOptions, Predictor
from deeptune.engine.runner import do_run
from deeptune.errors import CheckpointError, SpecError
from deeptune.runs import RunDirectory, new_run_directory, write_text

pytestmark = pytest.mark.usefixtures("no_reports")

EARLIER = Path(__file__).parent.parent / "data" / "version_0_1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the earlier version's runs, whose files name the places of the copy."""
    copy = tmp_path / "earlier"
    shutil.copytree(EARLIER, copy)
    for file in copy.rglob("*"):
        if file.suffix in (".json", ".jsonl", ".toml"):
            file.write_text(file.read_text("utf-8").replace("@FOLDER@", str(copy)), "utf-8")
    return copy


def test_a_finished_run_predicts_what_it_predicted(folder: Path) -> None:
    run = RunDirectory(folder / "finished")
    source = open_source(folder / "texts.parquet")
    Predictor(run, device="cpu").write_predictions(source, folder / "again.parquet", ApplyOptions())
    then, now = pq.read_table(run.predictions), pq.read_table(folder / "again.parquet")
    now = now.take(then["row"])
    assert now["prediction"].to_pylist() == then["prediction"].to_pylist()
    np.testing.assert_allclose(
        np.stack(now["probabilities"].to_numpy()), np.stack(then["probabilities"].to_numpy()), atol=1e-5
    )


def test_a_finished_run_scores_what_it_scored(folder: Path) -> None:
    run = RunDirectory(folder / "finished")
    table = pq.read_table(folder / "texts.parquet")
    pq.write_table(table.take(pq.read_table(run.predictions)["row"]), folder / "test.parquet")
    metrics, _ = Predictor(run, device="cpu").evaluate(open_source(folder / "test.parquet"), ApplyOptions())
    then = json.loads(run.metrics.read_text())["test"]
    for name in ("n", "accuracy", "macro_f1", "log_loss", "loss", "confusion_matrix"):
        assert np.asarray(metrics[name]) == pytest.approx(np.asarray(then[name]), abs=1e-5), name


def test_a_finished_run_says_nothing_that_val_has_not_shown(folder: Path) -> None:
    predictor = Predictor(RunDirectory(folder / "finished"), device="cpu")
    source = open_source(folder / "texts.parquet")
    found = predictor.predictions(source, ApplyOptions(abstain_below=0.99))
    assert found.column_names == ["row", "prediction", "probabilities", "confidence", "abstained"]
    with pytest.raises(SpecError, match="no sets or intervals"):
        predictor.predictions(source, ApplyOptions(coverage=0.9))


def test_damaged_labels_are_named(folder: Path) -> None:
    run = RunDirectory(folder / "finished")
    run.labels.write_text('{"task": "classification", "values": ["a", "b"], "confidence": {"calibrator": 1}}')
    with pytest.raises(CheckpointError, match=r"labels.json does not describe labels"):
        Predictor(run, device="cpu")


def test_a_finished_run_embeds(folder: Path) -> None:
    source = open_source(folder / "texts.parquet")
    predictor = Predictor(RunDirectory(folder / "finished"), device="cpu")
    predictor.write_embeddings(source, folder / "embeddings.parquet", ApplyOptions())
    assert pq.read_table(folder / "embeddings.parquet").num_rows == 60


def test_a_stopped_run_ends_as_if_it_had_not_been_stopped(folder: Path) -> None:
    run = RunDirectory(folder / "stopped")
    epochs = load_checkpoint(run.last).manifest["training"]["history"]["epochs"]
    result = do_run(run)
    alone = new_run_directory(folder / "runs", "alone")
    write_text(alone.spec, run.spec.read_text("utf-8"))
    expected = do_run(alone)
    assert (result["state"], result["steps"], result["epochs"]) == ("done", 24, 4)
    attempts = json.loads(run.run.read_text())["attempts"]
    assert [attempt["from_step"] for attempt in attempts] == [13]
    history = load_checkpoint(run.last).manifest["training"]["history"]["epochs"]
    assert history[:2] == epochs
    assert result["test"] == pytest.approx(expected["test"], abs=1e-5)
    ended, undisturbed = load_checkpoint(run.best).state, load_checkpoint(alone.best).state
    for name, tensor in undisturbed.items():
        np.testing.assert_allclose(ended[name].numpy(), tensor.numpy(), atol=1e-5, err_msg=name)
