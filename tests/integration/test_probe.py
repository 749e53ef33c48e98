"""`deeptune probe` on small files: what it ranks, what it leaves in the cache, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import tomllib

import numpy as np
import pytest
from pictures import png
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deeptune
from deeptune.engine import probe as engine
from deeptune.errors import SpecError
from deeptune.probing.ranking import stored_ranking

pytestmark = pytest.mark.usefixtures("no_reports")

ROWS = 160
SMALL = ("--set", "backbone.image_size=32", "--device", "cpu")
RANDOM = ("-b", "resnet18=random", *SMALL)


@pytest.fixture
def scans(image_file):
    """A file of pictures in shades of two colours, with patients of four rows, whose labels are now and then wrong."""
    rng = np.random.default_rng(0)
    reds = rng.integers(0, 256, ROWS)
    labels = [("low", "high")[int(red > 127) ^ int(rng.random() < 0.1)] for red in reds]
    pictures = [png(colour=(int(red), 90, int(rng.integers(256)))) for red in reds]
    return image_file("scans.parquet", images=pictures, labels=labels, patient=[row // 4 for row in range(ROWS)])


def ranked(command, *arguments: str) -> dict:
    answer = command("probe", "--json", *arguments)
    assert answer.code == 0, answer.stderr
    return json.loads(answer.stdout)


def test_a_probe_ranks_on_train_and_val_and_leaves_features_for_the_run(command, scans, tmp_path):
    found = ranked(command, "--data", str(scans), *RANDOM, "-o", "advised.toml")
    (one,) = found["backbones"]
    assert found["state"] == "complete"
    assert (found["usable_rows"], found["test_rows"], one["rows"]) == (128, 32, 128)
    assert one["pretrained"] is False
    assert one["width"] == 512
    assert one["linear"]["interval"][0] < one["linear"]["score"] < one["linear"]["interval"][1]
    assert one["linear"]["score"] > found["baseline"] + 0.1
    assert one["boosting"]["score"] > found["baseline"]
    assert one["memory"] > 4 * 11_000_000
    advised = tomllib.loads((tmp_path / "advised.toml").read_text())
    assert advised["backbone"] == {"name": "resnet18", "image_size": 32, "weights": "random"}
    assert advised["tuning"]["method"] == found["advice"]["method"] == "full"
    run = command(
        "run", "advised.toml", "--foreground", "--plain", "--set", "tuning.method=partial", "--set", "train.epochs=1"
    )
    assert run.code == 0, run.stderr
    assert "the features of all 160 rows were in the cache" in run.stdout


def test_the_score_is_scikit_learns_on_the_exported_embeddings(command, scans):
    (one,) = ranked(command, "--data", str(scans), *RANDOM)["backbones"]
    spec = {
        "data": {"path": str(scans)}, "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
        "train": {"epochs": 1, "device": "cpu"},
    }  # fmt: skip
    run = deeptune.finetune(spec, in_process=True, progress=False)
    parts = [run.embeddings(split) for split in ("train", "val")]
    x = np.concatenate([np.stack(part["embedding"].to_numpy()) for part in parts])
    y = np.concatenate([part["label"].to_numpy() for part in parts])
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [1e-3, 1e-2, 0.1, 1.0]}
    )
    theirs = cross_val_score(search, x, y, cv=5).mean()
    assert one["linear"]["score"] == pytest.approx(theirs, abs=0.06)


def test_a_second_probe_passes_no_row_and_fits_no_head_again(command, scans, monkeypatch):
    first = ranked(command, "--data", str(scans), *RANDOM)
    monkeypatch.setattr(engine, "out_of_fold", lambda *_: pytest.fail("a head was fitted again"))
    again = ranked(command, "--data", str(scans), *RANDOM)
    assert again["backbones"] == first["backbones"]


def test_groups_and_bad_samples_are_those_of_a_run(command, image_file):
    pictures = [png(colour=(row, 90, 30)) for row in range(60)]
    file = image_file(images=[b"broken", *pictures[1:]], labels=[row % 2 for row in range(60)], patient=[0] * 60)
    refused = command("probe", "--data", str(file), *RANDOM)
    assert refused.code == 3
    assert "1 of 60 samples" in refused.stderr
    one = command("probe", "--data", str(file), *RANDOM, "--set", "data.on_bad_sample=skip", "--group", "patient")
    assert one.code == 3
    assert "groups are too few" in one.stderr


def test_a_short_budget_passes_fewer_rows_and_says_so(command, scans, monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "empty"))  # no other test has stored the features there
    monkeypatch.setattr(engine, "COMPARED_ROWS", 0)
    found = ranked(command, "--data", str(scans), *RANDOM, "--budget", "0.01 s")
    (one,) = found["backbones"]
    assert found["state"] == "short"
    assert 20 <= one["rows"] < 128
    assert any(f"scores are of {one['rows']} of 128 rows" in note for note in found["notes"])
    whole = ranked(command, "--data", str(scans), *RANDOM)
    assert whole["state"] == "complete"
    assert whole["backbones"][0]["rows"] == 128


def test_ctrl_c_gives_what_is_known_so_far(command, scans, monkeypatch):
    fit = engine.out_of_fold

    def interrupted(kind, *arguments):
        if isinstance(kind, engine.BoostedTrees):
            os.kill(os.getpid(), signal.SIGINT)
        return fit(kind, *arguments)

    monkeypatch.setattr(engine, "out_of_fold", interrupted)
    answer = command("probe", "--data", str(scans), *RANDOM)
    assert answer.code == 130
    assert "resnet18 (random weights)" in answer.stdout
    assert "stopped early" in answer.stdout


def test_ctrl_c_before_anything_is_known_ends_the_command(command, scans, monkeypatch):
    monkeypatch.setattr(
        engine, "out_of_fold", lambda *arguments: (os.kill(os.getpid(), signal.SIGINT), arguments[-1]())
    )
    answer = command("probe", "--data", str(scans), *RANDOM)
    assert answer.code == 130
    assert answer.stdout == ""


def test_weights_that_are_not_here_leave_a_reason(command, scans, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    found = ranked(command, "--data", str(scans), "-b", "resnet34", *RANDOM)
    assert [one["name"] for one in found["backbones"]] == ["resnet18", "resnet34"]
    assert "are not on this machine" in found["backbones"][1]["reason"]
    alone = command("probe", "--data", str(scans), "-b", "resnet34", *SMALL)
    assert alone.code == 4


def test_mistakes_get_one_message(command, scans):
    for arguments, code, message in (
        ([], 2, "give --data FILE or a SPEC"),
        (["--data", str(scans), "--budget", "soon"], 2, "expected a time such as"),
        (["--data", str(scans), "-b", "bert"], 2, "is a backbone for text"),
        (["--data", str(scans), "-b", "resnet81"], 4, "Did you mean"),
        (["--data", str(scans), "--label", "finding"], 3, "finding"),
    ):
        answer = command("probe", *arguments)
        assert answer.code == code
        assert message in answer.stderr


def test_python_returns_a_ranking(scans):
    spec = {"data.path": scans, "backbone.image_size": 32, "train.device": "cpu"}
    found = deeptune.probe(spec, backbones=["resnet18=random"], progress=False)
    assert found.backbones[0].linear.score > found.baseline
    assert tomllib.loads(found.spec)["data"]["path"] == str(scans)
    with pytest.raises(SpecError, match="expected a time"):
        deeptune.probe(spec, budget=-1)


def test_texts_of_a_csv_file_are_ranked_and_known_until_it_changes(tiny_bert, tmp_path):
    file = tmp_path / "reviews.csv"
    rows = [("a good film", "good") if row % 2 else ("bad acting and no plot", "bad") for row in range(60)]
    lines = [f"{text} {number},{label}" for number, (text, label) in enumerate(rows)]
    file.write_text("text,labels\n" + "\n".join(lines) + "\n")
    spec = deeptune.load_spec({"data.path": file, "backbone.name": "?", "train.device": "cpu"})
    found = deeptune.probe(spec, backbones=[f"hf:{tiny_bert}"], progress=False)
    assert found.backbones[0].linear.score > 0.9
    assert stored_ranking(spec, "text") is not None
    file.write_text(file.read_text() + "one more,good\n")
    assert stored_ranking(spec, "text") is None
