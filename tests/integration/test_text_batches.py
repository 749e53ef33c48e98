"""Texts of a run: tokenised once, in batches of like length where the backbone learns, and told of in the log."""

from __future__ import annotations

import re

import pytest

from deeptune.data.loading import text_samples as samples_module
from deeptune.data.loading.batch_order import epoch_order
from deeptune.engine.loaders import split_loader
from deeptune.engine.prepare import prepare
from deeptune.engine.run import execute
from deeptune.runs import new_run_directory, read_records
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


def text_spec(folder, method, **backbone):
    return validate(
        {
            "data": {"path": "sample:movie_snippets", "split": {"train": 0.2, "val": 0.05, "test": 0.75}},
            "backbone": {"name": f"hf:{folder}", **backbone},
            "tuning": {"method": method},
            "train": {"epochs": 2, "batch_size": 16, "device": "cpu"},
            "embed": {"splits": ["train", "val", "test"]},
        }
    )


def test_a_run_tokenises_each_text_once_and_tells_their_lengths(tmp_path, review_bert, monkeypatch):
    told = []
    tokenise = samples_module.tokenise

    def counting(texts, *arguments, **options):
        lists = list(texts)
        told.extend(text for some in lists for text in some if text)
        return tokenise(lists, *arguments, **options)

    monkeypatch.setattr(samples_module, "tokenise", counting)
    run = new_run_directory(tmp_path, "test")
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    execute(text_spec(review_bert, "full", max_length=60), run)
    assert len(told) == 2000  # train (shuffled, unshuffled, a few rows), val, test and the embeddings of all
    (sentence,) = (
        event["message"] for event in read_records(run.events) if event.get("message", "").startswith("a training text")
    )
    found = re.fullmatch(
        r"a training text has (\d+) tokens \(median\), (\d+) \(95th percentile\), (\d+) \(longest\); (\d+) of 400 were "
        r"cut at 60, and (\d+\.\d)% of the tokens in training batches are padding",
        sentence,
    )
    execute(text_spec(review_bert, "lora", max_length=60), new_run_directory(tmp_path, "again"))
    assert len(told) == 2000  # a later run reads what this one kept
    middle, high, longest, cut = map(int, found.groups()[:4])
    assert 20 < middle < high <= longest == 60
    assert 0 < cut < 200
    assert 0 < float(found[5]) < 10


@pytest.mark.parametrize("method", ["partial", "full", "lora"])
def test_only_a_backbone_that_learns_gets_batches_of_like_length(review_bert, method):
    """A head alone learns from the same batches whether features are stored or not."""
    ready = prepare(text_spec(review_bert, method))
    training = split_loader(ready, "train", shuffle=True)
    rows = ready.plan.splits["train"].rows
    plain = rows[epoch_order(len(rows), ready.spec.train.seed, 1).numpy()]
    assert (training.order(1).tolist() == plain.tolist()) == (method == "partial")
    assert (training.padded_share(1) < 0.1) == (method != "partial")
    assert split_loader(ready, "train", shuffle=False).padded_share() < 0.05  # from short to long, for all
