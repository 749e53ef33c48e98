"""Bad samples in a run's own tables, and files that change in the middle of a run."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png, png_that_claims
from PIL import Image

from deeptune.data.sources import source
from deeptune.data.splits.planner import plan_data
from deeptune.data.splits.split_files import open_sources, sources_fingerprint
from deeptune.engine.run import execute
from deeptune.engine.run_logger import RunLogger
from deeptune.errors import DataError
from deeptune.runs import new_run_directory, read_records
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")

# --- runs on tiny data -----------------------------------------------------------------------------

COLOURS = [(200, 30, 30), (30, 30, 200)]


def jpeg(row: int) -> bytes:
    noise = np.random.default_rng(row).integers(0, 255, (64, 64, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG")
    return stream.getvalue()


BAD_IMAGES = {
    2: (b"no picture", "is not an image"),
    3: (None, "is null"),
    6: (jpeg(6)[:-2000], "is cut off"),
    9: (png_that_claims(10_000, 10_000), "claims 10,000 × 10,000 pixels"),
}
BAD_TEXTS = {2: (None, "is null"), 3: (" \n", "is blank"), 9: ("", "is blank")}
BATCH = 4


def images(count: int) -> list[bytes | None]:
    return [jpeg(row) if row % 3 == 0 else png(colour=COLOURS[row % 2]) for row in range(count)]


def texts(count: int) -> list[str | None]:
    return [("a good film", "bad acting")[row % 2] + " the plot" * (row % 3) for row in range(count)]


def write(file, values: list, bad: dict, column: str, **more) -> str:
    values = [bad[row][0] if row in bad else value for row, value in enumerate(values)]
    labels = [("red", "blue")[row % 2] for row in range(len(values))]
    pq.write_table(pa.table({column: values, "labels": labels, **more}), file)
    return str(file)


def spec_of(data: dict, backbone: dict, *, policy: str = "error", workers: int = 0, method: str = "partial") -> dict:
    return {
        "data": {**data, "on_bad_sample": policy},
        "backbone": backbone,
        "tuning": {"method": method},
        "train": {"epochs": 1, "batch_size": BATCH, "device": "cpu", "workers": workers},
    }


RESNET = {"name": "resnet18", "weights": "random", "image_size": 32}


class Finished:
    """What a run left behind."""

    def __init__(self, spec: dict, root) -> None:
        self.directory = new_run_directory(root, "test")
        self.error = None
        try:
            execute(validate(spec), self.directory)
        except DataError as error:
            self.error = error
        self.result = json.loads(self.directory.result.read_text())
        self.state = json.loads(self.directory.status.read_text())["state"]

    @property
    def predictions(self) -> pa.Table:
        return pq.read_table(self.directory.predictions)

    def embeddings(self, split: str) -> pa.Table:
        return pq.read_table(self.directory.embeddings(split))

    @property
    def metrics(self) -> dict:
        return json.loads(self.directory.metrics.read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert):
    """A run on two files, of which the test file holds bad samples: made once for (modality, policy, workers, clean).

    `clean` has ordinary samples in place of the bad ones.
    """
    made: dict[tuple, Finished] = {}

    def get(modality: str, policy: str, workers: int = 0, *, clean: bool = False) -> Finished:
        key = (modality, policy, workers, clean)
        if key not in made:
            root = tmp_path_factory.mktemp("faults")
            column, make, bad = ("images", images, BAD_IMAGES) if modality == "image" else ("text", texts, BAD_TEXTS)
            data = {
                "train": write(root / "train.parquet", make(24), {}, column),
                "test": write(root / "test.parquet", make(12), {} if clean else bad, column, name=list("abcdefghijkl")),
            }
            pq.write_table(pq.read_table(data["train"]).append_column("name", pa.array(["train"] * 24)), data["train"])
            backbone = RESNET if modality == "image" else {"name": f"hf:{tiny_bert}"}
            made[key] = Finished(spec_of(data, backbone, policy=policy, workers=workers), root)
        return made[key]

    return get


CASES = [("image", 0), ("image", 2), ("text", 0)]
BAD = {"image": BAD_IMAGES, "text": BAD_TEXTS}


def assert_told(errors: list[str | None], bad: dict) -> None:
    for row, error in enumerate(errors):
        if row in bad:
            assert error is not None
            assert error.startswith(bad[row][1])
        else:
            assert error is None


@pytest.mark.parametrize(("modality", "workers"), CASES)
def test_under_error_a_run_ends_with_all_its_bad_samples_listed(finished, modality, workers):
    run, bad = finished(modality, "error", workers), BAD[modality]
    assert run.state == run.result["state"] == "failed"
    first, *rest = run.error.message.splitlines()
    assert first.startswith(f"data.input: {len(bad)} of 36 samples in column")
    assert len(rest) == len(bad)
    for line, (row, (_, reason)) in zip(rest, bad.items(), strict=True):
        assert line.startswith(f"  test, row {row} {reason}")
    assert run.result["error"]["hint"] == run.error.hint
    assert not run.directory.predictions.exists()


@pytest.mark.parametrize(("modality", "workers"), CASES)
def test_under_skip_rows_left_out_of_a_file_are_in_its_tables_without_values(finished, modality, workers):
    run, bad = finished(modality, "skip", workers), BAD[modality]
    assert run.state == run.result["state"] == "done"
    assert run.result["rows"]["test"] == run.metrics["test"]["n"] == 12 - len(bad)
    assert [(one["split"], one["row"]) for one in run.result["skipped"]] == [("test", row) for row in bad]
    predictions = run.predictions
    said = ["prediction", "probabilities", "confidence", "expected_error", "prediction_set"]
    assert predictions.column_names == ["row", "truth", *said, "error"]
    assert predictions["row"].to_pylist() == list(range(12))
    assert predictions["truth"].to_pylist() == ["red", "blue"] * 6  # known, though the sample is not
    assert_told(predictions["error"].to_pylist(), bad)
    for name in said:
        assert predictions[name].is_null().to_pylist() == [row in bad for row in range(12)]
    table = run.embeddings("test")
    assert table.column_names == ["row", "label", "embedding", "name", "error"]
    assert table["row"].to_pylist() == list(range(12))
    assert table["label"].to_pylist() == ["red", "blue"] * 6
    assert table["name"].to_pylist() == list("abcdefghijkl")
    assert table["embedding"].is_null().to_pylist() == [row in bad for row in range(12)]
    assert_told(table["error"].to_pylist(), bad)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("policy", ["skip", "blank"])
def test_bad_samples_do_not_move_the_values_of_others(finished, modality, policy):
    """Each good row has what it has in a run on the same files without damage."""
    run, whole, bad = finished(modality, policy), finished(modality, "error", clean=True), BAD[modality]
    good = [row for row in range(12) if row not in bad]
    for mine, theirs, name in (
        (run.predictions, whole.predictions, "probabilities"),
        (run.embeddings("test"), whole.embeddings("test"), "embedding"),
    ):
        found, expected = (np.array([table[name][row].as_py() for row in good]) for table in (mine, theirs))
        assert np.ptp(expected, axis=0).max() > 1e-3  # or a wrong row would not be seen
        assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("modality", "workers"), CASES)
def test_under_blank_rows_have_the_values_of_an_empty_sample_and_say_so(finished, modality, workers):
    run, bad = finished(modality, "blank", workers), BAD[modality]
    assert run.state == run.result["state"] == "done"
    assert run.result["rows"]["test"] == run.metrics["test"]["n"] == 12
    assert run.result["on_bad_sample"] == "blank"
    assert [(one["split"], one["row"]) for one in run.result["skipped"]] == [("test", row) for row in bad]
    for table, name in ((run.predictions, "probabilities"), (run.embeddings("test"), "embedding")):
        assert table["row"].to_pylist() == list(range(12))
        assert table[name].null_count == 0
        assert_told(table["error"].to_pylist(), bad)
        first, *others = (np.array(table[name][row].as_py()) for row in bad)
        assert all(np.allclose(first, other, atol=1e-5) for other in others)  # the same empty sample


@pytest.mark.parametrize("policy", ["skip", "blank"])
def test_workers_change_nothing_about_bad_samples(finished, policy):
    alone, helped = finished("image", policy, 0), finished("image", policy, 2)
    assert alone.predictions.equals(helped.predictions)
    for split in ("train", "val", "test"):
        assert alone.embeddings(split).equals(helped.embeddings(split))


@pytest.mark.parametrize("policy", ["skip", "blank"])
def test_splits_without_bad_samples_have_no_column_for_errors(finished, policy):
    assert "error" not in finished("image", "error", clean=True).predictions.column_names
    for split in ("train", "val"):
        assert "error" not in finished("image", policy).embeddings(split).column_names


@pytest.mark.parametrize("policy", ["skip", "blank"])
def test_bad_samples_in_every_step_of_training_with_workers(tmp_path, policy):
    """One file, every weight trained, augmentation on: rows that are left out belong to no split."""
    bad = {row: BAD_IMAGES[[2, 3, 6, 9][row % 4]] for row in range(0, 40, 5)}
    data = {"path": write(tmp_path / "a.parquet", images(40), bad, "images")}
    spec = spec_of(data, RESNET, policy=policy, workers=2, method="full")
    spec["train"]["augmentation"] = "light"
    run = Finished(spec, tmp_path)
    assert run.state == "done"
    assert [one["row"] for one in run.result["skipped"]] == sorted(bad)
    splits = pq.read_table(run.directory.splits)
    where = dict(zip(splits["row"].to_pylist(), splits["split"].to_pylist(), strict=True))
    tables = {split: run.embeddings(split) for split in ("train", "val", "test")}
    if policy == "skip":
        assert not set(bad) & set(where)
        assert {one["split"] for one in run.result["skipped"]} == {None}
        assert not any("error" in table.column_names for table in [run.predictions, *tables.values()])
        return
    assert set(where) == set(range(40))
    assert {(one["split"], one["row"]) for one in run.result["skipped"]} == {(where[row], row) for row in bad}
    told = {}
    for table in tables.values():
        assert table["embedding"].null_count == 0
        if "error" in table.column_names:
            told |= dict(zip(table["row"].to_pylist(), table["error"].to_pylist(), strict=True))
    assert {row for row, error in told.items() if error} == set(bad)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_row_without_a_label_is_left_out_of_its_file_under_blank(tmp_path, task):
    """A label can't be made up: `blank` leaves such a row out too."""
    data = {
        "train": write(tmp_path / "train.parquet", images(24), {}, "images"),
        "test": write(tmp_path / "test.parquet", images(12), {3: BAD_IMAGES[3]}, "images"),
    }
    labels = ["red", "blue"] * 12 if task == "classification" else [0.5 * row for row in range(24)]
    for split, file in data.items():
        table = pq.read_table(file)
        values = labels[: table.num_rows]
        if split == "test":
            values[5], values[7] = None, "" if task == "classification" else float("nan")
        pq.write_table(table.set_column(1, "labels", pa.array(values)), file)
    run = Finished({**spec_of(data, RESNET, policy="blank"), "task": task}, tmp_path)
    predictions = run.predictions
    assert predictions["row"].to_pylist() == list(range(12))
    errors = {row: error for row, error in enumerate(predictions["error"].to_pylist()) if error}
    assert errors == {3: "is null", 5: "label is missing", 7: "label is missing"}
    truth, prediction = predictions["truth"].to_pylist(), predictions["prediction"].to_pylist()
    assert truth == [None if row in (5, 7) else labels[row] for row in range(12)]
    assert [row for row in range(12) if prediction[row] is None] == [5, 7]
    assert run.metrics["test"]["n"] == 10
    assert [row for row in range(12) if run.embeddings("test")["embedding"][row].as_py() is None] == [5, 7]


def test_rows_left_out_of_a_file_that_two_splits_are_drawn_from_belong_to_neither(tmp_path):
    data = {
        "train": write(tmp_path / "train.parquet", texts(30), BAD_TEXTS, "text"),
        "test": write(tmp_path / "test.parquet", texts(12), BAD_TEXTS, "text"),
    }
    spec = validate(spec_of(data, {"name": "any"}, policy="skip"))
    plan = plan_data(spec)
    for split in ("train", "val"):
        assert plan.errors(split) == {}
        assert plan.all_rows(split).tolist() == plan.splits[split].rows.tolist()
        assert plan.truth(split).tolist() == plan.splits[split].targets.tolist()
    assert plan.errors("test") == {2: "is null", 3: "is blank", 9: "is blank"}
    assert plan.all_rows("test").tolist() == list(range(12))
    assert plan.truth("test").tolist() == [1, 0] * 6
    val = write(tmp_path / "val.parquet", texts(6), {}, "text")
    plan = plan_data(validate(spec_of({**data, "val": val}, {"name": "any"}, policy="skip")))
    assert list(plan.errors("train")) == [2, 3, 9]  # now the file is train's alone
    blank = plan_data(validate(spec_of(data, {"name": "any"}, policy="blank")))
    assert {row for split in ("train", "val") for row in blank.errors(split)} == {2, 3, 9}
    assert list(blank.errors("test")) == [2, 3, 9]


# --- files that change during a run ----------------------------------------------------------------


@pytest.fixture
def in_phase(monkeypatch):
    """`in_phase("embed", do)` calls `do` when a run enters that phase."""

    def arrange(name: str, do) -> None:
        phase = RunLogger.phase

        def watched(self, which, **content):
            phase(self, which, **content)
            if which == name:
                do()

        monkeypatch.setattr(RunLogger, "phase", watched)

    return arrange


@pytest.mark.parametrize("vanishes", [False, True])
def test_a_file_that_changes_between_training_and_embedding_is_not_mixed_in(tmp_path, in_phase, vanishes, monkeypatch):
    """Of a file that is too large for its columns to be held in memory."""
    monkeypatch.setattr(source, "SMALL", 0)
    file = tmp_path / "a.parquet"
    path = write(file, images(30), {}, "images", patient=list(range(30)))

    def change() -> None:
        if vanishes:
            file.unlink()
        else:
            write(file, images(30), {}, "images", patient=list(range(100, 130)))

    in_phase("embed", change)
    run = Finished(spec_of({"path": path}, RESNET), tmp_path)
    assert run.state == run.result["state"] == "failed"
    what = "has vanished" if vanishes else "has changed since the run opened it"
    assert f"data.path: {file} {what}" in run.error.message
    assert "`deeptune resume`" in run.error.hint
    assert run.result["error"] == {"title": "data error", "message": run.error.message, "hint": run.error.hint}
    assert read_records(run.directory.events)[-1]["state"] == "failed"
    for made in (run.directory.predictions, run.directory.embeddings("test")):
        assert made.exists()  # what was made of the file as it was stays
    assert not run.directory.embeddings("train").exists()


def test_columns_that_are_held_are_those_of_the_file_as_it_was(tmp_path, in_phase):
    path = write(tmp_path / "a.parquet", images(30), {}, "images", patient=list(range(30)))
    in_phase("embed", lambda: write(tmp_path / "a.parquet", images(30), {}, "images", patient=list(range(100, 130))))
    run = Finished(spec_of({"path": path}, RESNET), tmp_path)
    assert run.state == "done"
    kept = run.embeddings("train")
    assert kept["patient"].to_pylist() == kept["row"].to_pylist()


def test_a_file_that_changes_when_all_of_it_was_read_costs_nothing(tmp_path, in_phase, finished):
    path = write(tmp_path / "a.parquet", images(30), {}, "images")
    before = Finished(spec_of({"path": path}, RESNET), tmp_path)
    in_phase("train", (tmp_path / "a.parquet").unlink)
    after = Finished(spec_of({"path": path}, RESNET), tmp_path)
    assert after.state == "done"
    assert after.predictions.equals(before.predictions)
    assert after.embeddings("train").equals(before.embeddings("train"))


def test_a_fingerprint_is_known_before_any_sample_is_checked(tmp_path):
    train = write(tmp_path / "train.parquet", texts(30), {}, "text")
    test = write(tmp_path / "test.parquet", texts(12), {}, "text")
    prints = []
    for data in ({"path": train}, {"train": train}, {"train": train, "test": test}):
        spec = validate(spec_of(data, {"name": "any"}))
        sources = open_sources(spec)
        assert set(sources) == ({"train"} if "path" in data else set(data))
        prints.append(sources_fingerprint(sources))
        plan = plan_data(spec, sources=sources)
        assert plan.fingerprint == prints[-1] == plan_data(spec).fingerprint
        assert plan.splits["train"].source is sources["train"]
    assert prints[0] == prints[1] != prints[2]
