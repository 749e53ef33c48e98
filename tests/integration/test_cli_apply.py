"""`predict`, `evaluate` and `embed` on other files, through the command line."""

from __future__ import annotations

import json
import os
import stat

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pictures import png
from sklearn.metrics import accuracy_score

from deeptune.backbones import load_backbone
from deeptune.spec.run_spec import BackboneSpec

pytestmark = pytest.mark.usefixtures("no_reports")

RED, BLUE = png(colour=(200, 30, 30)), png(colour=(30, 30, 200))
SMALL = ("--set", "backbone.name=resnet18", "--set", "backbone.weights=random", "--set", "backbone.image_size=32")


@pytest.fixture
def run(command, image_file):
    """The path of a finished run that tells red from blue."""
    answer = command(
        "run",
        "--data",
        str(image_file()),
        *SMALL,
        "--set",
        "train.epochs=3",
        "--json",
        "--foreground",
        "--output",
        "runs",
    )
    assert answer.code == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])["run"]


def test_predictions_keep_the_order_and_say_why_a_row_has_none(command, run, tmp_path):
    broken = RED[: len(RED) // 2]
    images = [BLUE, broken, RED, None, BLUE]
    pq.write_table(pa.table({"images": pa.array(images, pa.binary())}), tmp_path / "new.parquet")
    answer = command("predict", run, "--data", "new.parquet", "--output", "deep/out.parquet")
    assert answer.code == 0, answer.stderr
    assert "wrote 5 predictions to deep/out.parquet" in answer.stdout
    assert "2 rows have none" in answer.stdout
    table = pq.read_table(tmp_path / "deep" / "out.parquet")
    said = ["prediction", "probabilities", "confidence", "expected_error", "prediction_set"]
    assert table.column_names == ["row", *said, "error"]
    assert table["row"].to_pylist() == [0, 1, 2, 3, 4]
    prediction = table["prediction"].to_pylist()
    assert prediction[0] == prediction[4] == "blue"
    assert prediction[2] == "red"
    assert prediction[1] is prediction[3] is None
    assert [value is None for value in table["probabilities"].to_pylist()] == [False, True, False, True, False]
    for name in said[2:]:
        assert [value is None for value in table[name].to_pylist()] == [False, True, False, True, False]
    errors = table["error"].to_pylist()
    assert errors[0] is errors[2] is errors[4] is None
    assert errors[1]
    assert errors[3]

    strict = command("predict", run, "--data", "new.parquet", "--output", "strict.parquet", "--on-bad-sample", "error")
    assert strict.code == 3
    assert "row 1" in strict.stderr
    assert not (tmp_path / "strict.parquet").exists()


def test_a_file_without_one_usable_row_still_has_a_row_for_each(command, run, tmp_path):
    pq.write_table(pa.table({"images": pa.array([b"", b"x"], pa.binary())}), tmp_path / "bad.parquet")
    assert command("predict", run, "--data", "bad.parquet", "--output", "out.parquet").code == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["prediction"].to_pylist() == [None, None]
    assert command("embed", run, "--data", "bad.parquet", "--output", "embedded.parquet").code == 0
    assert pq.read_table(tmp_path / "embedded.parquet")["embedding"].to_pylist() == [None, None]


def test_predict_leaves_out_what_is_not_sure_enough(command, run, tmp_path):
    pq.write_table(pa.table({"images": [BLUE, RED, b"broken"]}), tmp_path / "new.parquet")
    sure = command("predict", run, "--data", "new.parquet", "--output", "all.parquet", "--abstain-below", "0")
    assert sure.code == 0, sure.stderr
    assert "0 of them are left empty: their confidence is below 0 " in sure.stdout
    table = pq.read_table(tmp_path / "all.parquet")
    assert table["abstained"].to_pylist() == [False, False, None]
    limit = str(table["confidence"].drop_null().to_numpy().max())
    unsure = command("predict", run, "--data", "new.parquet", "--output", "o.parquet", "--abstain-below", limit)
    assert unsure.code == 0, unsure.stderr
    found = pq.read_table(tmp_path / "o.parquet")
    assert f"{found['abstained'].to_pylist().count(True)} of them are left empty" in unsure.stdout
    left = [not seen or seen < float(limit) for seen in found["confidence"].to_pylist()]
    assert [one is None for one in found["prediction"].to_pylist()] == left
    assert found["probabilities"].null_count == 1


@pytest.mark.parametrize("option", [("--abstain-below", "1.5"), ("--coverage", "0.3")])
def test_predict_refuses_a_share_that_is_none(command, run, tmp_path, option):
    pq.write_table(pa.table({"images": [BLUE]}), tmp_path / "new.parquet")
    answer = command("predict", run, "--data", "new.parquet", "--output", "out.parquet", *option)
    assert answer.code == 2
    assert option[0] in answer.stderr
    assert not (tmp_path / "out.parquet").exists()


def test_evaluate_scores_a_labelled_file_and_refuses_labels_it_does_not_know(command, run, tmp_path):
    labels = ["blue", "red", "red", "blue"]
    pq.write_table(pa.table({"images": [BLUE, RED, BLUE, BLUE], "labels": labels}), tmp_path / "labelled.parquet")
    answer = command("evaluate", run, "--data", "labelled.parquet", "--json", "--output", "metrics.json")
    assert answer.code == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["n"] == 4
    assert found["accuracy"] == accuracy_score(labels, ["blue", "red", "blue", "blue"]) == 0.75
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    shown = command("evaluate", run, "--data", "labelled.parquet")
    assert "Accuracy" in shown.stdout
    assert "0.750" in shown.stdout

    pq.write_table(pa.table({"images": [BLUE], "labels": ["green"]}), tmp_path / "other.parquet")
    answer = command("evaluate", run, "--data", "other.parquet")
    assert answer.code == 3
    assert "'green'" in answer.stderr
    long = "y" * 2500 + "z" * 2500
    pq.write_table(pa.table({"images": [BLUE], "labels": [long]}), tmp_path / "other.parquet")
    answer = command("evaluate", run, "--data", "other.parquet")
    assert "yyy … (5,002 characters) … zzz" in answer.stderr  # with its quotation marks
    assert len(answer.stderr) < 500
    pq.write_table(pa.table({"images": [BLUE], "labels": [0.5]}), tmp_path / "other.parquet")
    answer = command("evaluate", run, "--data", "other.parquet")
    assert answer.code == 3
    assert "'labels' holds decimal numbers, and classes are integers, strings or booleans" in answer.stderr
    assert "trained for classification with the classes blue, red" in answer.stderr
    assert "task =" not in answer.stderr  # which is a run's, for good
    pq.write_table(pa.table({"images": [BLUE]}), tmp_path / "unlabelled.parquet")
    answer = command("evaluate", run, "--data", "unlabelled.parquet")
    assert answer.code == 3
    assert "labels" in answer.stderr


def test_embeddings_of_a_run_keep_the_other_columns_beside_them(command, run, tmp_path):
    table = pa.table(
        {"images": [BLUE, b"broken", RED], "site": ["a", "b", "c"], "row": [7, 8, 9], "labels": ["blue"] * 3}
    )
    pq.write_table(table, tmp_path / "new.parquet")
    assert command("embed", run, "--data", "new.parquet", "--output", "out.parquet").code == 0
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == ["row", "label", "embedding", "site", "row_in_source", "error"]
    assert found.schema.field("embedding").type == pa.list_(pa.float32(), 512)
    assert found["site"].to_pylist() == ["a", "b", "c"]
    assert found["row_in_source"].to_pylist() == [7, 8, 9]
    assert [value is None for value in found["embedding"].to_pylist()] == [False, True, False]


def test_a_file_that_numbers_its_classes_differently_is_read_by_name(command, tmp_path):
    def write(file, names, labels):
        features = {"labels": {"names": names, "_type": "ClassLabel"}}
        table = pa.table({"images": [(BLUE, RED)[row % 2] for row in range(len(labels))], "labels": labels})
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / file)

    write("train.parquet", ["blue", "red"], [0, 1] * 20)
    write("test.parquet", ["red", "blue"], [1, 0] * 5)
    answer = command(
        "run", "--set", "data.train=train.parquet", "--set", "data.test=test.parquet", *SMALL,
        "--set", "train.epochs=3", "--json", "--foreground", "--output", "runs",
    )  # fmt: skip
    assert answer.code == 0, answer.stderr
    run = json.loads(answer.stdout.splitlines()[-1])["run"]
    assert json.loads((tmp_path / run / "metrics.json").read_text())["test"]["accuracy"] == 1.0
    assert pq.read_table(tmp_path / run / "embeddings" / "test.parquet")["label"].to_pylist() == [0, 1] * 5

    answer = command("evaluate", run, "--data", "test.parquet", "--json")
    assert json.loads(answer.stdout.splitlines()[-1])["accuracy"] == 1.0
    assert command("embed", run, "--data", "test.parquet", "--output", "out.parquet").code == 0
    assert pq.read_table(tmp_path / "out.parquet")["label"].to_pylist() == [0, 1] * 5

    write("other.parquet", ["green", "blue"], [1, 0] * 5)
    answer = command("embed", run, "--data", "other.parquet", "--output", "other-out.parquet")
    assert answer.code == 3
    assert "a class that does not occur in the training data: 'green'" in answer.stderr
    assert not (tmp_path / "other-out.parquet").exists()


def test_a_plain_backbone_embeds_as_itself(command, tmp_path):
    pq.write_table(pa.table({"images": [BLUE, RED], "labels": [1, 0]}), tmp_path / "new.parquet")
    answer = command(
        "embed", "--backbone", "resnet18", "--weights", "random", "--image-size", "32",
        "--data", "new.parquet", "--output", "out.parquet",
    )  # fmt: skip
    assert answer.code == 0, answer.stderr
    found = np.array(pq.read_table(tmp_path / "out.parquet")["embedding"].to_pylist(), np.float32)
    backbone = load_backbone(BackboneSpec(name="resnet18", weights="random", image_size=32), seed=42)
    images = torch.stack([torch.full((3, 32, 32), 0, dtype=torch.uint8)] * 2)
    for index, colour in enumerate([(30, 30, 200), (200, 30, 30)]):
        images[index] = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1)
    with torch.inference_mode():
        expected = backbone({"images": images}).numpy()
    assert np.allclose(found, expected, atol=1e-5)
    assert pq.read_table(tmp_path / "out.parquet")["label"].to_pylist() == [1, 0]
    wrong = command("embed", "--backbone", "resnet19", "--data", "new.parquet", "--output", "out.parquet")
    assert wrong.code == 4
    assert "resnet18" in wrong.stderr


def test_an_output_that_cannot_be_written_is_known_before_the_work(command, run, tmp_path):
    pq.write_table(pa.table({"images": [BLUE]}), tmp_path / "new.parquet")
    answer = command("predict", run, "--data", "new.parquet", "--output", str(tmp_path))
    assert answer.code == 6
    assert "is a folder" in answer.stderr
    (tmp_path / "file").write_text("")
    answer = command("predict", run, "--data", "new.parquet", "--output", "file/out.parquet")
    assert answer.code == 6
    os.mkfifo("pipe.parquet")
    answer = command("predict", run, "--data", "new.parquet", "--output", "pipe.parquet")
    assert (answer.code, "is a device, a pipe or a socket" in answer.stderr) == (6, True)
    assert stat.S_ISFIFO(os.stat("pipe.parquet").st_mode)


@pytest.mark.parametrize(
    ("name", "output"), [("predict", "out.csv"), ("embed", "out.xlsx"), ("evaluate", "out.parquet")]
)
def test_a_name_of_another_kind_of_file_is_refused_before_the_work(command, run, tmp_path, name, output):
    pq.write_table(pa.table({"images": [BLUE], "labels": ["blue"]}), tmp_path / "new.parquet")
    answer = command(name, run, "--data", "new.parquet", "--output", output)
    assert answer.code == 2
    assert f"--output: {output} is named as another kind of file than is written" in answer.stderr
    assert not (tmp_path / output).exists()


def test_evaluate_has_the_loss_of_the_run_and_names_its_label_column(command, image_file, tmp_path):
    table = pa.table({"images": [RED, BLUE] * 12, "colour": [0.5, 2.5] * 12})
    pq.write_table(table, tmp_path / "colours.parquet")
    arguments = ["--set", "task=regression", "--set", "data.label=colour", "--set", "train.loss=huber"]
    answer = command(
        "run", "--data", "colours.parquet", *SMALL, *arguments, "--json", "--foreground", "--set", "train.epochs=2"
    )
    assert answer.code == 0, answer.stderr
    run = json.loads(answer.stdout.splitlines()[-1])
    rows = pq.read_table(f"{run['run']}/predictions.parquet")["row"]
    pq.write_table(table.take(rows), tmp_path / "test.parquet")
    found = json.loads(command("evaluate", run["run"], "--data", "test.parquet", "--json").stdout.splitlines()[-1])
    assert found["loss"] == pytest.approx(run["test"]["loss"], abs=1e-6)

    pq.write_table(table.slice(0, 2).set_column(1, "colour", pa.array([0.5, None])), tmp_path / "null.parquet")
    answer = command("evaluate", run["run"], "--data", "null.parquet")
    assert answer.code == 3
    assert "'colour'" in answer.stderr


def test_an_output_that_is_an_input_is_refused_by_any_path(command, run, tmp_path):
    """By a link, another spelling or a folder; also a file of the run, and the data that it was trained on."""
    folder = tmp_path / "folder"
    folder.mkdir()
    data = folder / "new.parquet"
    pq.write_table(pa.table({"images": [RED, BLUE], "labels": ["red", "blue"]}), data)
    (tmp_path / "link.parquet").symlink_to(data)
    (tmp_path / "hard.parquet").hardlink_to(data)
    trained_on = tmp_path / "images.parquet"
    before = {path: path.read_bytes() for path in (data, trained_on)}
    attempts = [
        (str(data), str(data), "is the data that is read"),
        (str(data), "folder/../folder/new.parquet", "is the data that is read"),
        ("link.parquet", str(data), "is the data that is read"),
        (str(data), "link.parquet", "is the data that is read"),
        (str(data), "hard.parquet", "is the data that is read"),
        ("folder", str(data), "is the data that is read"),
        ("folder", "folder/out.parquet", "would become part of the data"),
        ("folder/*.parquet", str(data), "is the data that is read"),
        (str(data), str(trained_on), "is data that the run was trained on"),
        (str(data), f"{run}/predictions.parquet", "is a file of the run itself"),
        (str(data), f"{run}/embeddings/test.parquet", "is a file of the run itself"),
        (str(data), f"{run}/out_of_fold.parquet", "is a file of the run itself"),
        (str(data), f"{run}/explanations/row.parquet", "is a file of the run itself"),
    ]
    for given, output, reason in attempts:
        for verb in ("predict", "embed"):
            answer = command(verb, run, "--data", given, "--output", output)
            assert answer.code == 2, (verb, given, output, answer)
            assert reason in answer.stderr, (verb, given, output)
    answer = command("evaluate", run, "--data", str(data), "--output", str(data))
    assert answer.code == 2
    assert {path: path.read_bytes() for path in before} == before


def test_progress_as_lines_of_json(capsys):
    from deeptune.cli.apply import shown_progress

    with shown_progress("predicting", quiet=True, as_json=True) as progress:
        for done, total in ((4, 10), (10, 10), (5, 6), (6, 6)):
            progress(done, total)
    told = [json.loads(line)["progress"] for line in capsys.readouterr().err.splitlines()]
    assert {"what": "reading", "done": 10, "total": 10} in told
    assert told[-1] == {"what": "predicting", "done": 6, "total": 6}
