"""A run that is killed at any moment and resumed ends with the very bits of the run that was left alone."""

from __future__ import annotations

import itertools
import json
import os
import random
import time

import pytest
import torch
from devices import DEVICE, ON_DEVICE
from faults.killing import (
    copy_of,
    finish,
    kill,
    killed_after,
    killed_at_block,
    killed_at_write,
    log_lines,
    same_outcome,
    small_sample,
    start,
)

from deeptune.engine import run as run_module
from deeptune.engine.device import rows_at_once
from deeptune.engine.run import execute
from deeptune.runs import new_run_directory, read_records, run_state, write_text
from deeptune.spec import dump_spec, load_spec
from deeptune.spec.toml import validate

CASES = list(itertools.product(("image", "text"), ("partial", "unfreeze", "full", "lora")))
RANDOM_KILLS = int(os.environ.get("DEEPTUNE_TEST_KILLS", "16"))  # 50 in the long version


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory, review_bert):
    """`spec_of("text", "lora", epochs=4)`: a small run on real data."""
    folder = tmp_path_factory.mktemp("data")
    small_sample("openclipart7", folder / "images.parquet")
    small_sample("movie_snippets", folder / "texts.parquet")
    return lambda modality, method, **train: make_spec(folder, review_bert, modality, method, **train)


def make_spec(folder, text_backbone, modality, method, **train):
    """A run that draws random numbers wherever one can: dropout, augmentation, order, and stops within epochs."""
    settings = {"start": "head", "epochs": 3, "batch_size": 8, **ON_DEVICE, "workers": 0}
    settings |= {"checkpoint_every": "3 steps", **train}
    if modality == "image":
        data, backbone = "images", {"name": "timm:test_resnet", "weights": "random", "image_size": 64}
        split = {"train": 0.6, "val": 0.2, "test": 0.2}
        if method in ("full", "lora"):
            settings |= {"augmentation": "light", "workers": int(method == "lora"), "layer_decay": 0.8}
            settings |= {"mixup": 0.4, "cutmix": 1.0, "average": "ema"}
    else:
        data, backbone = "texts", {"name": f"hf:{text_backbone}", "max_length": 24}
        split = {"train": 0.4, "val": 0.2, "test": 0.4}
    head = {"layers": 2, "embedding_size": 12, "dropout": 0.2}
    return validate(
        {
            "data": {"path": str(folder / f"{data}.parquet"), "split": split},
            "backbone": backbone,
            "head": head,
            "tuning": {"method": "partial", "unfreeze": 1} if method == "unfreeze" else {"method": method},
            "train": settings,
        }
    )


def new_run(root, spec):
    run = new_run_directory(root, "test")
    write_text(run.spec, dump_spec(spec))
    return run


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory, spec_of):
    """The run of (modality, method) that nobody disturbed."""
    made = {}

    def get(modality, method):
        if (modality, method) not in made:
            run = new_run(tmp_path_factory.mktemp("alone"), spec_of(modality, method))
            made[modality, method] = finish(run, report=False)  # outcomes are compared, reports are not
        return made[modality, method]

    return get


@pytest.mark.parametrize(("modality", "method"), CASES)
def test_killed_again_and_again_at_random_moments(left_alone, tmp_path, spec_of, modality, method):
    alone = left_alone(modality, method)
    chance = random.Random(f"{modality}{method}{RANDOM_KILLS}")
    kills = RANDOM_KILLS // len(CASES) + (CASES.index((modality, method)) < RANDOM_KILLS % len(CASES))
    for first in range(0, kills, 2):
        run = new_run(tmp_path, spec_of(modality, method))
        # Twice in one run, then to its end: also a resumed run is killed. One that comes too late is tried again.
        for most in (log_lines(alone), log_lines(alone) // 3)[: kills - first]:
            while not killed_after(chance.randint(0, most - 2), chance.uniform(0, 0.05), run):
                run = new_run(tmp_path, spec_of(modality, method))
        same_outcome(alone, finish(run))


@pytest.mark.parametrize(
    ("modality", "method"), [("image", "full"), ("text", "lora"), ("image", "partial"), ("text", "unfreeze")]
)
def test_killed_within_the_writing_of_checkpoints(left_alone, tmp_path, spec_of, modality, method):
    """At the renames and removals around checkpoints: inside `last`, inside `best`, and between the two."""
    alone = left_alone(modality, method)
    run = new_run(tmp_path, spec_of(modality, method))
    number = 3
    while killed_at_write(number, run):
        number += 1  # a few more than the life before: it gets on, and each dies at another place
        assert number < 40, "it does not get on"
    assert number > 6
    same_outcome(alone, run)


@pytest.mark.parametrize(
    ("modality", "method"), [("image", "partial"), ("text", "partial"), ("image", "unfreeze"), ("text", "unfreeze")]
)
def test_killed_while_the_frozen_backbone_passes(tmp_path, spec_of, modality, method):
    """Each life goes on at the block that the one before died at, in a resumed run as in a new one."""
    block = rows_at_once(torch.device(DEVICE))
    rows = 7 * block
    sample = {"image": "openclipart7", "text": "movie_snippets"}[modality]
    spec = spec_of(modality, method, start="random")  # a head fitted first has a pass of its own
    data = {"path": str(small_sample(sample, tmp_path / "rows.parquet", rows))}
    spec = spec.model_copy(update={"data": spec.data.model_copy(update=data)})
    alone = new_run(tmp_path / "alone", spec)
    assert not killed_at_block(10**6, alone, tmp_path / "cache of one")
    run, lives = new_run(tmp_path, spec), 0
    while killed_at_block(2 + lives % 2, run, tmp_path / "cache"):
        lives += 1
        assert lives < 7, "it does not get on"
    assert lives == 4
    told = [event["message"] for event in read_records(run.events) if " passed the frozen " in event.get("message", "")]
    frozen, trains = {
        "partial": ("backbone", "the head trains on their features"),
        "unfreeze": ("blocks", "the others train on what these gave"),
    }[method]
    assert told == [  # lives gained one block or two in turn
        f"{block} rows passed the frozen {frozen} once ({rows - block:,} more were in the cache); {trains}"
    ]
    same_outcome(alone, run)


def test_a_resumed_run_says_where_it_went_on(tmp_path, spec_of):
    run = new_run(tmp_path, spec_of("text", "full", epochs=40, early_stopping={"patience": 0}))
    process = start(run)
    while not any(event["kind"] == "checkpoint" and event["which"] == "last" for event in read_records(run.events)):
        time.sleep(0.05)
    kill(process)
    assert run_state(run).word == "crashed"
    saved = [event for event in read_records(run.events) if event["kind"] == "checkpoint" and event["which"] == "last"]
    copy = copy_of(run, tmp_path / "copy")
    process = start(copy)
    while not (resumed := [event for event in read_records(copy.events) if event["kind"] == "resume"]):
        time.sleep(0.05)
    kill(process)
    assert resumed[0]["step"] == saved[-1]["step"] > 0
    sequence = [event["seq"] for event in read_records(copy.events)]
    assert sequence == sorted(set(sequence))


def test_training_that_another_version_stored_goes_on(tmp_path, monkeypatch, spec_of):
    """What that version did not know has its default, and what this one does not know is left."""
    run = new_run(tmp_path, spec_of("text", "full", epochs=6, early_stopping={"patience": 0}))
    process = start(run)
    while not any(event["kind"] == "checkpoint" and event["which"] == "last" for event in read_records(run.events)):
        time.sleep(0.05)
    kill(process)
    train_state_of = run_module.train_state_of

    def of_another_version(checkpoint):
        taken = train_state_of(checkpoint)
        taken.values["history"].pop("at_once")
        taken.values["history"]["rows_at_once"] = 8
        return taken

    monkeypatch.setattr(run_module, "train_state_of", of_another_version)
    execute(load_spec(run.spec), run)
    assert [event["kind"] for event in read_records(run.events)].count("resume") == 1
    assert json.loads(run.result.read_text())["state"] == "done"
