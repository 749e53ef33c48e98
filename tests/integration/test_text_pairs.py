"""Pairs of texts through training, resuming, prediction, evaluation and embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults.killing import finish, killed_after, log_lines, same_outcome
from small_bert import NO_DROPOUT, save_small_bert

from deeptune.engine.prepare import prepare
from deeptune.engine.run import execute
from deeptune.runs import RunDirectory, new_run_directory, write_text
from deeptune.runs.files import read_json
from deeptune.spec import RunSpec, dump_spec, load_spec
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")

WORDS = {"good": ("good", "great"), "bad": ("bad", "dull")}
STARTS = ("the film is", "its plot is", "an hour that is", "acting so")


def pairs(rows: int, seed: int) -> pa.Table:
    """Opinions on two films: whether they agree can't be told from one of them. `noted` is not part of the input."""
    numbers = np.random.default_rng(seed)
    kinds = [numbers.choice(["good", "bad"], rows) for _ in range(2)]
    first, second = ([f"{numbers.choice(STARTS)} {numbers.choice(WORDS[kind])}" for kind in column] for column in kinds)
    labels = ["agree" if one == other else "differ" for one, other in zip(*kinds, strict=True)]
    return pa.table({"first": first, "second": second, "labels": labels, "noted": range(rows)})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    pq.write_table(pairs(400, seed=0), path)
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of BERT with random weights, and a tokenizer that knows the words."""
    texts = pairs(400, seed=0)["first"].to_pylist()
    folder = tmp_path_factory.mktemp("models") / "bert"
    return save_small_bert(folder, texts, vocabulary=200, limit=32, **NO_DROPOUT)


def spec_of(
    file: Path, folder: Path, method: str, *, unfreeze: int = 0, input: Any = ("first", "second"), **train: Any
) -> RunSpec:
    return validate(
        {
            "data": {"path": str(file), "input": list(input)},
            "backbone": {"name": f"hf:{folder}"},
            "tuning": {"method": method, "unfreeze": unfreeze},
            "train": {"batch_size": 16, "device": "cpu", **train},
        }
    )


@pytest.fixture(scope="module")
def trained(file: Path, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = new_run_directory(tmp_path_factory.mktemp("runs"), "pairs")
    # A head on features of random weights is of no use to start from.
    rates = {"learning_rate": 2e-3, "head_learning_rate": 2e-3, "start": "random"}
    execute(spec_of(file, bert, "full", epochs=20, early_stopping={"patience": 0}, **rates), run)
    return run


def test_a_run_learns_what_only_both_texts_tell(trained: RunDirectory) -> None:
    assert read_json(trained.metrics)["test"]["accuracy"] > 0.9  # one of the two texts gives 0.5


def test_the_spec_of_a_run_names_both_columns(trained: RunDirectory) -> None:
    assert load_spec(trained.spec).data.input == ["first", "second"]
    assert read_json(trained.run)["preprocessing"]["token_types"] is True


def test_neither_text_is_kept_beside_the_embeddings(trained: RunDirectory) -> None:
    names = pq.read_schema(trained.embeddings("test")).names
    assert names == ["row", "label", "embedding", "noted"]


def test_a_later_file_gets_the_outputs_of_the_run(trained: RunDirectory, file: Path, command: Any) -> None:
    answer = command("predict", str(trained.path), "--data", str(file), "-o", "found.parquet")
    assert answer.code == 0, answer.stderr
    found = pq.read_table("found.parquet")
    stored = pq.read_table(trained.predictions)
    again = found.take(stored["row"])
    assert again["prediction"].to_pylist() == stored["prediction"].to_pylist()
    assert (
        np.abs(np.stack(again["probabilities"].to_numpy()) - np.stack(stored["probabilities"].to_numpy())).max() < 1e-6
    )


def test_a_later_file_is_scored(trained: RunDirectory, command: Any) -> None:
    pq.write_table(pairs(60, seed=5), "later.parquet")
    answer = command("evaluate", str(trained.path), "--data", "later.parquet")
    assert answer.code == 0, answer.stderr


@pytest.mark.parametrize("what", ["predict", "embed", "evaluate"])
def test_a_file_without_the_second_column_gets_one_message(trained: RunDirectory, command: Any, what: str) -> None:
    pq.write_table(pairs(5, seed=1).drop_columns(["second"]), "half.parquet")
    output = [] if what == "evaluate" else ["-o", "x.parquet"]
    answer = command(what, str(trained.path), "--data", "half.parquet", *output)
    assert answer.code == 3
    assert "there is no column 'second' in" in answer.stderr
    assert not Path("x.parquet").exists()


@pytest.mark.parametrize(("method", "unfreeze"), [("partial", 0), ("partial", 1), ("lora", 0)])
def test_token_types_change_what_every_way_of_tuning_computes(
    file: Path, bert: Path, tmp_path: Path, method: str, unfreeze: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs, of which one is not given the types, end with other losses."""
    losses = []
    for typed in (True, False):
        with monkeypatch.context() as patch:
            if not typed:
                patch.setattr("deeptune.backbones.transformers._reads_token_types", lambda *_: False)
            run = new_run_directory(tmp_path, f"run-{typed}")
            execute(spec_of(file, bert, method, unfreeze=unfreeze, epochs=1), run)
        losses.append(read_json(run.metrics)["val"]["loss"])
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("method", "unfreeze"), [("full", 0), ("partial", 1)])
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(
    file: Path, bert: Path, tmp_path: Path, method: str, unfreeze: int
) -> None:
    alone, killed = (new_run_directory(tmp_path, name) for name in ("alone", "killed"))
    for run in (alone, killed):
        spec = spec_of(file, bert, method, unfreeze=unfreeze, epochs=3, checkpoint_every="3 steps")
        write_text(run.spec, dump_spec(spec))
    finish(alone, report=False)
    assert killed_after(log_lines(alone) // 2, 0, killed)
    same_outcome(alone, finish(killed, report=False))


def test_the_order_of_the_columns_matters(file: Path, bert: Path) -> None:
    orders = (("first", "second"), ("second", "first"))
    ready = [prepare(spec_of(file, bert, "full", input=input)) for input in orders]
    first, other = (next(iter(one.samples.values())) for one in ready)
    assert first.ids(0).tolist() != other.ids(0).tolist()
