"""The comparison of recipes: its cells, their rows, its statistics, and two cells from end to end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png
from scipy import stats

sys.path.append(str(Path(__file__).parents[2]))  # last: the package under test may be an installed one

from benchmarks.recipes.__main__ import main
from benchmarks.recipes.cells import RESULTS, Cell, Result, append_result, pairs, read_results
from benchmarks.recipes.datasets import DataSet, available, digits, draw, write_files
from benchmarks.recipes.peers import PEERS, NotInstalled, Peer
from benchmarks.recipes.report import difference, differences, report
from benchmarks.recipes.scoring import Predicted, scores, standard_error
from benchmarks.recipes.work import cells_of

BACKBONE = "timm:test_resnet@32"


def cell(recipe: str, *, seed: int = 0, size: str = "150", data: str = "d") -> Cell:
    return Cell(data, size, "b", recipe, seed)


def result(recipe: str, score: float, *, seconds: float = 1.0, **where: object) -> Result:
    return Result(cell(recipe, **where), {"accuracy": score}, 0.02, seconds)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    colours = [(200, 30, 30), (30, 30, 200)]
    for name, rows in (("train", 40), ("test", 12)):
        table = {
            "images": [png(colour=colours[row % 2]) for row in range(rows)],
            "labels": [("red", "blue")[row % 2] for row in range(rows)],
        }
        pq.write_table(pa.table(table), tmp_path / f"tiny_{name}.parquet")
    return tmp_path


def test_two_cells_run_from_end_to_end_and_a_second_start_runs_none(folder, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = [
        "--data", str(folder), "--sets", "tiny", "--out", str(folder / "out"), "--sizes", "24", "--seeds", "1",
        "--image-backbone", BACKBONE, "--recipes", "tiny-head", "tiny-full",
        "--define", "tiny-head", "backbone.weights=random", "train.epochs=2",
        "--define", "tiny-full", "backbone.weights=random", "train.epochs=1", "tuning.method=full",
    ]  # fmt: skip
    assert main(arguments) == 0
    found = read_results(folder / "out")
    assert [(one.cell.recipe, one.failed) for one in found] == [("tiny-head", None), ("tiny-full", None)]
    assert all({"accuracy", "log_loss", "ece"} <= one.scores.keys() and one.seconds > 0 for one in found)
    before = (folder / "out" / RESULTS).read_bytes()
    capsys.readouterr()
    assert main(arguments) == 0
    assert "0 of 2 cells" in capsys.readouterr().out
    assert (folder / "out" / RESULTS).read_bytes() == before
    assert main(["report", "--out", str(folder / "out"), "--against", "tiny-head"]) == 0
    assert "| 24 | tiny-full | 1 |" in capsys.readouterr().out


def test_cells_are_listed_before_anything_runs(folder, capsys):
    append_result(folder, Result(Cell("tiny", "24", BACKBONE, "head", 0), {"accuracy": 1.0}))
    arguments = ["--data", str(folder), "--sets", "tiny", "--out", str(folder), "--sizes", "24", "--seeds", "2"]
    main([*arguments, "--image-backbone", BACKBONE, "--recipes", "head", "--list"])
    assert capsys.readouterr().out.split("\n") == [
        f"done   tiny/24/{BACKBONE}/head/0", f"to do  tiny/24/{BACKBONE}/head/1", "",
    ]  # fmt: skip


def test_a_killed_line_costs_no_other(tmp_path):
    append_result(tmp_path, result("head", 0.5))
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"cell": {"data"')
    append_result(tmp_path, result("full", 0.6))
    assert [one.cell.recipe for one in read_results(tmp_path)] == ["head", "full"]


def test_a_cell_that_failed_counts_until_it_succeeds(tmp_path):
    append_result(tmp_path, Result(cell("full"), {}, failed="exit code 1"))
    append_result(tmp_path, result("full", 0.6))
    assert [one.scores for one in read_results(tmp_path)] == [{"accuracy": 0.6}]


def test_the_mean_difference_and_its_interval_are_those_of_scipy():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.8, 0.1, 12), rng.normal(0.7, 0.1, 12)
    results = [
        result(name, float(value), seed=seed)
        for name, values in (("full", ours), ("head", theirs))
        for seed, value in enumerate(values)
    ]
    found = difference(differences(results, "full", "head", "accuracy"))
    test = stats.ttest_rel(ours, theirs)
    expected = test.confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(ours - theirs), expected.low, expected.high))
    assert found.count == 12


def test_only_the_same_rows_and_backbone_are_paired():
    results = [result("full", 0.8), result("head", 0.7, seed=1), result("head", 0.6, size="400")]
    assert pairs(results, "full", "head") == []
    assert len(pairs([*results, result("head", 0.5)], "full", "head")) == 1


def test_one_pair_has_no_interval():
    assert (difference([0.1]).low, str(difference([0.1]))) == (None, "+0.100")


def test_targets_are_judged_by_the_cells():
    results = [result("head", 0.7, seed=0), result("full", 0.69, seed=0)]
    assert "| worst -0.5 SE; mean -0.010 at 150 | no |" in report(results, "head")
    results = [result("head", 0.7), result("full", 0.71)]
    assert "worst +0.5 SE; mean +0.010 at 150 | yes |" in report(results, "head")


def test_a_peer_that_failed_is_named_with_its_reason():
    drawn = report([result("head", 0.7), Result(cell("trainer"), {}, failed="trainer needs `pip install x`")], "head")
    assert drawn.endswith("## Not run\n\n- trainer: trainer needs `pip install x`")


def test_a_peer_that_is_not_installed_says_what_to_install():
    peer = Peer("other", "", ("text",), ("regression",), "no_such_package", "pip install other")
    with pytest.raises(NotInstalled, match="other needs `pip install other`"):
        peer.module()


def test_peers_run_only_where_they_fit():
    data = DataSet("d", pa.table({"text": ["a"] * 200, "labels": [1.0] * 200}), pa.table({}))
    cells = cells_of(data, ["150", "400", "all"], {"text": "b"}, 1, ["head", *PEERS])
    assert {one.recipe for one in cells} == {"head", "linear", "trainer", "autogluon_medium"}
    assert [one.size for one in cells if one.recipe == "head"] == ["150", "all"]


def test_a_draw_follows_its_seed_and_keeps_the_shares_of_classes():
    table = pa.table({"row": range(400), "labels": ["a"] * 300 + ["b"] * 100})
    one, same, other = draw(table, 40, 1), draw(table, 40, 1), draw(table, 40, 2)
    assert one.equals(same)
    assert not one.equals(other)
    assert one["labels"].to_pylist().count("b") == 10


def test_the_test_rows_are_the_same_in_every_cell(tmp_path):
    data = digits()
    first, second = (write_files(data, "50", seed, tmp_path, 60) for seed in (0, 1))
    assert first.test == second.test
    assert pq.read_table(first.test).num_rows == 60
    assert not pq.read_table(first.train).equals(pq.read_table(second.train))


def test_the_sign_of_a_number_is_a_data_set_of_its_own(tmp_path):
    for name in ("train", "test"):
        table = pa.table({"text": ["a", "b", "c"], "labels": [-1.0, 0.0, 2.5]})
        pq.write_table(table, tmp_path / f"mood_{name}.parquet")
    data = available(tmp_path)["mood:sign"]()
    assert (data.task, data.train.to_pydict()) == (
        "classification", {"text": ["a", "c"], "labels": ["negative", "positive"]},
    )  # fmt: skip


def test_a_class_that_a_model_does_not_know_has_probability_zero():
    found = scores(
        np.array(["a", "z"]), Predicted(probabilities=np.array([[0.9, 0.1], [0.6, 0.4]]), classes=["a", "b"])
    )
    assert found["accuracy"] == 0.5
    assert found["log_loss"] > 10


def test_the_standard_error_of_r2_is_that_of_the_bootstrap():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000)
    numbers = truth + rng.normal(0, 0.7, 2000)
    drawn = [rng.integers(0, 2000, 2000) for _ in range(400)]
    spread = np.std([scores(truth[rows], Predicted(numbers=numbers[rows]))["r2"] for rows in drawn])
    assert standard_error(truth, Predicted(numbers=numbers)) == pytest.approx(spread, rel=0.15)


def test_a_result_is_one_line_of_json():
    assert Result.of(json.loads(result("head", 0.5).line())) == result("head", 0.5)
