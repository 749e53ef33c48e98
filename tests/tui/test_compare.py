"""Runs beside one another: the keys that differ, the best of each metric, curves, copies, and runs that are damaged."""

from __future__ import annotations

import shutil
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import drive, picture, shows, until
from pictures import png

from deeptune.report.comparing import compare_runs
from deeptune.runs import EventWriter, RunDirectory, write_json, write_text
from deeptune.show.comparison import Facts, caution, differences, flat, read_facts, scores
from tui.app import DeepTuneApp
from tui.options import Options
from tui.run_comparison import ShownComparison
from tui.screens.compare import CompareScreen
from tui.screens.copied import CopiedScreen
from tui.screens.pick import PickScreen
from tui.widgets.paired_differences import Differences

LOADING = 180.0  # seconds that a process may take that loads PyTorch on a busy machine


def write_run(root, name: str, *, rate: float, accuracy: float, rows=(1, 2, 3), data: str = "sha256:a") -> RunDirectory:
    run = RunDirectory(root / name)
    run.path.mkdir(parents=True)
    write_text(run.spec, f'name = "{name}"\n[data]\npath = "[b]x[/b].parquet"\n[train]\nlearning_rate = {rate}\n')
    write_json(run.run, {"fingerprints": {"data": data}})
    write_json(run.metrics, {"test": {"accuracy": accuracy, "loss": 1 - accuracy, "n": len(rows)}})
    write_json(run.result, {"state": "done"})
    pq.write_table(pa.table({"row": [0, *rows], "split": ["train", *["test"] * len(rows)]}), run.splits)
    with closing(EventWriter(run.events)) as events:
        for epoch in range(1, 5):
            val = {"loss": 1 / epoch, "accuracy": accuracy * epoch / 4}
            events.record("epoch", epoch=epoch, epochs=4, train={"loss": 0.9 / epoch}, val=val, best=True)
    return run


def compared(runs: list[RunDirectory], steps, size=(80, 24), **options) -> None:
    app = DeepTuneApp(Options(root=runs[0].path.parent, **options))

    async def first(pilot):
        app.open_compare(runs)
        await until(
            pilot, lambda: isinstance(app.screen, CompareScreen) and all(each.spec for each in app.screen.facts)
        )
        await pilot.pause()
        await steps(pilot, app.screen)

    drive(app, first, size=size)


def test_only_keys_that_differ_are_differences():
    specs = [
        flat({"name": "a", "train": {"epochs": 3, "clip": True}, "head": {"layers": 1}}),
        flat({"name": "b", "train": {"epochs": 5, "clip": True}}),
    ]
    assert differences(specs) == [("train.epochs", ["3", "5"]), ("head.layers", ["1", "-"])]


def test_the_best_of_each_metric_by_its_own_direction_and_ties():
    tests = [
        {"accuracy": 0.9, "loss": 0.3, "mae": 1.0},
        {"accuracy": 0.9001, "loss": 0.2, "r2": None},
        {"accuracy": 0.5},
    ]
    table = {title: (values, best) for title, values, best in scores(tests)}
    assert table["Accuracy"] == (["0.900", "0.900", "0.500"], [True, True, False])
    assert table["Loss"] == (["0.3000", "0.2000", "-"], [False, True, False])
    assert table["MAE"][1] == [False, False, False]  # there is nothing to be better than
    assert "R²" not in table


def test_scikit_learn_s_macro_f1_has_a_line_only_where_a_run_s_is_another_number():
    same, other = {"macro_f1": 0.5, "macro_f1_present": 0.5}, {"macro_f1": 0.5, "macro_f1_present": 0.7}
    assert [title for title, *_ in scores([same, same])] == ["Macro F1"]
    assert [title for title, *_ in scores([same, other])] == ["Macro F1", "Macro F1 (scikit-learn)"]


@pytest.mark.parametrize(
    ("other", "words"),
    [({"data": "sha256:b"}, "not on the same data"), ({"rows": (1, 2, 4)}, "not the same test rows"), ({}, "")],
)
def test_metrics_of_other_rows_are_not_compared_without_a_word(tmp_path, other, words):
    runs = [
        write_run(tmp_path, "one", rate=0.1, accuracy=0.5),
        write_run(tmp_path, "two", rate=0.1, accuracy=0.6, **other),
    ]
    found = caution([read_facts(run) for run in runs])
    assert words in found
    assert bool(words) == bool(found)


def test_a_run_that_has_nothing_yet_has_no_facts(tmp_path):
    assert read_facts(RunDirectory(tmp_path / "none")) == Facts()
    run = write_run(tmp_path, "one", rate=0.1, accuracy=0.5)
    for file in (run.metrics, run.run, run.splits, run.spec):
        file.write_text("nothing of the kind {")
    assert read_facts(run) == Facts()


def test_curves_metrics_and_differences_are_shown_and_copied(tmp_path):
    runs = [
        write_run(tmp_path, "one", rate=0.125, accuracy=0.75),
        write_run(tmp_path, "two-[b]bold", rate=0.5, accuracy=0.875),
    ]

    async def steps(pilot, screen):
        await shows(pilot, "0.875 ★")
        shown = picture(pilot.app)
        for words in ("two-[b]bold", "val loss", "train.learning_rate", "0.125", "Accuracy"):
            assert words in shown, shown
        assert "data.path" not in shown
        await pilot.press("m")
        await shows(pilot, "train loss")
        await pilot.press("m")
        await shows(pilot, "val accuracy")
        await pilot.press("x", "x")
        await pilot.press("left")
        await shows(pilot, " at step")
        await pilot.press("escape")
        await pilot.press("y")
        await until(pilot, lambda: isinstance(pilot.app.screen, CopiedScreen))
        assert "| Accuracy | 0.750 | 0.875 |" in pilot.app.clipboard
        await pilot.press("escape")
        await pilot.press("t")
        await until(pilot, lambda: isinstance(pilot.app.screen, CopiedScreen))
        assert r"Accuracy & 0.750 & 0.875 \\" in pilot.app.clipboard

    compared(runs, steps, size=(100, 34))


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (160, 45)])
def test_four_runs_in_ascii(tmp_path, size):
    runs = [write_run(tmp_path, f"run-{n}", rate=n / 10, accuracy=n / 10) for n in range(1, 5)]

    async def steps(pilot, screen):
        await shows(pilot, "run-1")
        assert picture(pilot.app).replace("·", "").replace("…", "").isascii()

    compared(runs, steps, size=size, ascii=True)


def with_predictions(run: RunDirectory, wrong: int) -> RunDirectory:
    """Give a run the labels, classes and predictions of 40 test rows, of which some are wrong."""
    write_text(run.spec, '[data]\npath = "x.parquet"\n[backbone]\nname = "resnet18"\n')
    write_json(run.labels, {"task": "classification", "values": [0, 1], "names": None})
    truth = [row % 2 for row in range(40)]
    said = [1 - one if row < wrong else one for row, one in enumerate(truth)]
    chances = [[0.8, 0.2] if one == 0 else [0.2, 0.8] for one in said]
    table = {"row": list(range(40)), "truth": truth, "prediction": said, "probabilities": chances}
    pq.write_table(pa.table(table), run.predictions)
    pq.write_table(pa.table({"row": list(range(40)), "split": ["test"] * 40, "label": truth}), run.splits)
    return run


def test_differences_are_shown_with_interval_and_p(tmp_path):
    runs = [
        with_predictions(write_run(tmp_path, name, rate=0.1, accuracy=1 - wrong / 40), wrong)
        for name, wrong in (("one", 12), ("two", 2))
    ]

    async def steps(pilot, screen):
        await shows(pilot, "B − A")
        shown = picture(pilot.app)
        assert "+0.250" in shown
        assert "0.002" in shown  # McNemar's exact test of 10 rows against none

    compared(runs, steps, size=(120, 50))


def test_the_tables_scroll_while_a_chart_has_the_focus(tmp_path):
    runs = [write_run(tmp_path, name, rate=0.1, accuracy=0.5) for name in ("one", "two")]

    async def steps(pilot, screen):
        tables = screen.query_one("#tables")
        assert screen.focused is screen.query_one("#first")
        await until(pilot, lambda: tables.max_scroll_y > 0)
        await pilot.press("pagedown", "pagedown")
        await until(pilot, lambda: tables.scroll_y == tables.max_scroll_y)
        await pilot.press("pageup", "pageup")
        await until(pilot, lambda: tables.scroll_y == 0)

    compared(runs, steps, size=(80, 18))


def test_runs_that_cannot_be_compared_say_why(tmp_path):
    runs = [with_predictions(write_run(tmp_path, name, rate=0.1, accuracy=0.9), 4) for name in ("one", "two")]
    pq.write_table(pq.read_table(runs[1].predictions).slice(1), runs[1].predictions)

    async def steps(pilot, screen):
        await shows(pilot, "no differences: A and B were not scored on the same test rows")

    compared(runs, steps, size=(140, 50))


def test_a_long_reason_is_wrapped_and_names_runs_by_their_letters(tmp_path):
    names = ("resnet18-partial-20261129-041420-6634a0", "resnet18-partial-20261129-041413-3650ac")
    runs = [with_predictions(write_run(tmp_path, name, rate=0.1, accuracy=0.9), 4) for name in names]
    pq.write_table(pq.read_table(runs[1].predictions).slice(1), runs[1].predictions)

    async def steps(pilot, screen):
        await shows(pilot, "no differences: A and B were not scored on the same test rows")
        assert "only in A: rows 0)" in " ".join(picture(pilot.app).split())

    compared(runs, steps, size=(80, 60))


def test_a_letter_stands_for_a_whole_id_only():
    rows = Differences(reason="a and a-b have other labels", ids=["a", "a-b"]).rows(80, "-")
    assert rows[1] == [("no differences: A and B have other labels", "label")]


def test_rows_that_flipped_are_counted(tmp_path):
    runs = [
        with_predictions(write_run(tmp_path, name, rate=0.1, accuracy=1 - wrong / 40), wrong)
        for name, wrong in (("one", 12), ("two", 2))
    ]

    async def steps(pilot, screen):
        await shows(pilot, "10 of 40 rows flipped: only A has 0 right, only B 10")

    compared(runs, steps, size=(80, 60))


def test_no_score_is_called_best_where_the_test_rows_differ(tmp_path):
    runs = [
        write_run(tmp_path, "one", rate=0.1, accuracy=0.5),
        write_run(tmp_path, "two", rate=0.1, accuracy=0.6, rows=(1, 2, 4)),
    ]

    async def steps(pilot, screen):
        await until(pilot, lambda: "compared row for row" in " ".join(picture(pilot.app).split()))
        assert "★" not in picture(pilot.app).partition("A one")[2]

    compared(runs, steps, size=(80, 60))


def test_the_pairs_that_are_compared_are_counted(tmp_path):
    paths = [
        with_predictions(write_run(tmp_path, name, rate=0.1, accuracy=0.5), wrong).path
        for wrong, name in enumerate(("one", "two", "three"))
    ]
    seen = []
    compare_runs(paths, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3)]
    assert Differences(progress=(1, 3)).rows(80, "-")[1][0][0] == "comparing row by row: 1 of 3 pairs of runs"


def three_compared(tmp_path) -> list[RunDirectory]:
    return [
        with_predictions(write_run(tmp_path, name, rate=0.1, accuracy=1 - wrong / 40), wrong)
        for name, wrong in (("one", 12), ("two", 2), ("three", 7))
    ]


def test_any_run_may_be_the_one_that_others_are_compared_with(tmp_path):
    async def steps(pilot, screen):
        await shows(pilot, "C − A")
        assert "A one  done  the others less this" in picture(pilot.app)
        await pilot.press("r")
        await shows(pilot, "C − B")
        shown = picture(pilot.app)
        assert "A − B" in shown
        assert "C − A" not in shown
        assert "−0.250" in shown  # A has 28 of 40 right, B 38
        assert "10 of 40 rows flipped: only B has 10 right, only A 0" in shown
        assert "row 2: truth 0; B 0, A 1" in shown
        assert "B is better than A on these rows (difference −0.250" in " ".join(shown.split())
        await pilot.press("r", "r")
        await shows(pilot, "C − A")

    compared(three_compared(tmp_path), steps, size=(160, 90))


def test_a_comparison_comes_back_whole_from_the_process(tmp_path):
    found = ShownComparison.of(compare_runs([run.path for run in three_compared(tmp_path)]))
    assert len(found.flipped[0]) == 4
    assert ShownComparison.from_json(found.to_json()) == found
    assert [(pair.second, pair.first) for pair, *_ in found.against(2)] == [(0, 2), (1, 2)]


def test_runs_are_compared_on_a_file_that_is_picked(finished_run, pictures_parquet):
    other = RunDirectory(finished_run.path.parent / "other")
    shutil.copytree(finished_run.path, other.path)

    async def steps(pilot, screen):
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, PickScreen))
        await shows(pilot, "pictures.parquet")
        await pilot.press("enter")
        await shows(pilot, "scoring 2 runs on pictures.parquet ... (d cancels)")
        await shows(pilot, f"on 48 rows of {pictures_parquet}", seconds=LOADING)
        shown = " ".join(picture(pilot.app).split())
        splits = pq.read_table(finished_run.splits, columns=["row", "split"]).to_pylist()
        images = pq.read_table(pictures_parquet)["images"].to_pylist()
        seen = {images[one["row"]] for one in splits if one["split"] != "test"}
        learned = sum(image in seen for image in images)
        for letter in "AB":
            assert f"! {learned} of them are in train or val of {letter}: its scores here are too good" in shown
        assert shown.count("B − A") == 2  # on the file, and on their own test rows
        assert "on 10 test rows" in shown
        assert "A and B predict the same for each of these rows" in shown

    compared([finished_run, other], steps, size=(160, 90))


def test_a_file_that_can_not_be_scored_says_why(finished_run, tmp_path):
    file = tmp_path / "unlabelled.parquet"
    pq.write_table(pa.table({"images": [png()]}), file)
    other = RunDirectory(finished_run.path.parent / "other")
    shutil.copytree(finished_run.path, other.path)

    async def steps(pilot, screen):
        await screen._on_file.start(screen.runs, file)
        shown = " ".join(picture(pilot.app).split())
        assert "the runs can't be compared on unlabelled.parquet" in shown
        assert "there is no column 'labels' in" in shown

    compared([finished_run, other], steps, size=(160, 90))


def test_a_session_that_only_looks_scores_nothing(tmp_path):
    async def steps(pilot, screen):
        await pilot.press("d")
        await pilot.pause()
        assert pilot.app.screen is screen

    compared(three_compared(tmp_path), steps, size=(80, 24), read_only=True)
