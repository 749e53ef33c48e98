"""A run and its dry run say at once which weights are not on this machine."""

from __future__ import annotations

import json

import pytest

from deeptune.errors import WeightsError
from deeptune.runs import new_run_directory, read_records, write_text
from deeptune.spec import dump_spec
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")

BERT = {"data": {"path": "sample:movie_snippets"}, "backbone": {"name": "bert-base-cased"}, "train": {"device": "cpu"}}


@pytest.fixture(autouse=True)
def _nothing_is_here(tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_run_says_it_before_anything_else(tmp_path):
    from deeptune.engine.run import execute

    spec = validate(BERT)
    run = new_run_directory(tmp_path, "texts")
    write_text(run.spec, dump_spec(spec))
    with pytest.raises(WeightsError):
        execute(spec, run)
    said = [event for event in read_records(run.events) if event["kind"] in ("phase", "message")]
    assert said[0]["kind"] == "message"
    assert "HF_HUB_OFFLINE forbids fetching them" in said[0]["message"]
    assert "hf download google-bert/bert-base-cased" in said[0]["message"]


def test_a_folder_without_weights_is_not_looked_for_on_the_hub(tmp_path):
    from deeptune.fetching.planned import weights_to_fetch
    from deeptune.spec.run_spec import BackboneSpec

    (fetch,) = weights_to_fetch(BackboneSpec(name=f"hf:{tmp_path}"))
    assert fetch.text.endswith(f"are not on this machine, and the folder {tmp_path} holds no weights that can be read")
    assert "huggingface.co" not in fetch.text + fetch.way


def test_a_dry_run_says_it(tmp_path, monkeypatch, capsys):
    from deeptune.cli.summary import print_plan
    from deeptune.engine.dry_run import describe

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    facts = describe(validate({"data": {"path": "sample:openclipart7"}, "backbone": {"name": "resnet18"}}))
    fetch = json.loads(json.dumps(facts))["backbone"]["fetch"]
    assert fetch["size"] == 11_176_512 * 4
    assert fetch["origin"] == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    print_plan(facts)
    assert "about 45 MB" in " ".join(capsys.readouterr().out.split())
