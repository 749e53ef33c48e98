"""Wrong settings, arguments and commands: one clear message, the right exit code, and no run directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.one_message import SPEC, WEIGHTS, check


# The spec: known before anything is read, and no run directory is made.
@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["trian.epochs=1"], ["trian: unknown key", "Did you mean 'train'?"]),
        (["train.epoch=1"], ["--set: train.epoch: unknown key", "Did you mean 'epochs'"]),
        (["epochs=3"], ["--set: epochs: unknown key. Did you mean 'train.epochs'?"]),
        (["dropout=0.1"], ["Did you mean 'head.dropout' or 'tuning.lora.dropout'?"]),
        (["train.lr=0.1"], ["Did you mean 'train.learning_rate'?"]),
        (["foo=3"], ["foo: unknown key. Known keys: name, task, data,"]),
        (["train.epochs=many"], ["--set: train.epochs: expected an integer of at least 1 or 'auto', got 'many'"]),
        (["train.epochs=true"], ["train.epochs: expected an integer of at least 1 or 'auto', got True"]),
        (["train.epochs=1.5"], ["train.epochs: expected an integer of at least 1 or 'auto', got 1.5"]),
        (["train.batch_size=0"], ["train.batch_size: expected an integer of at least 1 or 'auto', got 0"]),
        (["tuning.method=loar"], ["tuning.method: expected 'partial', 'full' or 'lora', got 'loar'. Did you mean"]),
        (["data.split={train=0.5, val=0.1, test=0.2}"], ["data.split: ", "must sum to 1", "0.5 + 0.1 + 0.2 = 0.8"]),
        (["data.split={train=-0.1, val=0.1, test=1.0}"], ["data.split.train: expected a number of at least 0"]),
        (["data=3"], ["data: expected a table of keys, got 3"]),
        (["data.split=[0.8, 0.2]"], ["data.split: expected a table of keys, got [0.8, 0.2]. Its"]),
        (["task=regression", "train.class_weights=balanced"], ["train.class_weights: regression has no classes"]),
        (["epochs"], ["'epochs' is not of the form section.key=value"]),
        (["train.epochs=1", "train.epochs.x=1"], ["'epochs' is a value, not a section"]),
        (["embed.splits=[train"], ["--set embed.splits", "is not a TOML value"]),
    ],
)  # fmt: skip
def test_a_wrong_setting(command, settings, parts):
    arguments = [word for setting in settings for word in ("--set", setting)]
    check(command("run", "quickstart", *arguments, "--output", "out"), SPEC, *parts)
    assert not Path("out").exists()


def test_every_wrong_setting_is_told_at_once_with_its_line(command):
    Path("my.toml").write_text(
        '[data]\npath = "x.parquet"\n\n[backbone]\nnmae = "gpt2"\n\n[train]\nepochs = 0\nlearning_rate = "fast"\n'
    )
    answer = command("run", "my.toml", "--set", "head.layers=3", "--output", "out")
    check(
        answer, SPEC,
        "5 problems in the run spec my.toml", "line 5: backbone.nmae: unknown key. Did you mean 'name'?",
        "line 4: backbone.name: is missing", "line 8: train.epochs: ", "line 9: train.learning_rate: ",
        "--set: head.layers: expected 1 or 2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["quikstart"], SPEC, ["no run spec 'quikstart'", "Did you mean 'quickstart'?", "deeptune presets"]),
        (["folder"], SPEC, ["folder is data, not a run spec", "deeptune run --data folder"]),
        (["a b.csv"], SPEC, ["a b.csv is data, not a run spec", "deeptune run --data 'a b.csv'"]),
        (["earlier"], SPEC, ["earlier is the folder of a run", "deeptune resume earlier", "earlier/spec.toml"]),
        (["broken.toml"], SPEC, ["broken.toml is not valid TOML", "line 1"]),
        (["binary.toml"], SPEC, ["binary.toml is not a text file"]),
        ([], SPEC, ["data: is missing. Name a file", "backbone: is missing. Name it"]),
        (["quickstart", "--set", "backbone.name=resnet81"], WEIGHTS, ["'resnet81'. Did you mean 'resnet18'"]),
        (["quickstart", "--epochs", "3"], SPEC, ["No such option", "`--set train.epochs=…`", "run --help"]),
        (["quickstart", "--lr", "3"], SPEC, ["No such option: --lr", "`--set train.learning_rate=…`"]),
        (["quickstart", "--dry"], SPEC, ["No such option: --dry", "--dry-run"]),
    ],
)  # fmt: skip
def test_a_wrong_argument(command, arguments, code, parts):
    Path("folder").mkdir()
    Path("earlier").mkdir()
    Path("earlier/spec.toml").touch()
    Path("a b.csv").write_text("text,labels\n")
    Path("broken.toml").write_text("[data\n")
    Path("binary.toml").write_bytes(b"\xff\xfe\x00")
    check(command("run", *arguments, "--output", "out"), code, *parts)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "quickstart"], ["No such command 'train'. Did you mean `deeptune run`?"]),
        (["quickstart"], ["Did you mean `deeptune run quickstart`?"]),
        (["my.toml"], ["Did you mean `deeptune run my.toml`?"]),
        (["evalute"], ["Did you mean 'evaluate'"]),
        (
            ["init", "--data", "a.parquet"],
            ["No such option: --data", "DATA goes without an option: `deeptune init DATA`."],
        ),
        (["split", "--file", "a.parquet"], ["`deeptune split FILE`."]),
        (["runs", "somewhere"], ["unexpected extra argument", "`--runs` takes it."]),
        (["import", "a.tar", "b.tar", "-o", "c.parquet"], ["(b.tar)", "put the files into a folder"]),
        (["backbones", "vit"], ["`--family` takes it."]),
        (
            ["evaluate", "r", "--data", "a.parquet", "b.parquet"],
            ["(b.parquet)", "Quote a pattern", "'scans-*.parquet'"],
        ),
        (["run", "quickstart", "a.parquet"], ["(a.parquet)", "`--data` takes it."]),
        (["spec", "fields", "train.epoch"], ["there is no key 'train.epoch'. Did you mean 'train.epochs'"]),
        (["spec", "fields", "lr"], ["there is no key 'lr'. Did you mean 'train.learning_rate'?"]),
        (["xyzzy"], ["No such command 'xyzzy'.", "deeptune --help"]),
    ],
)
def test_a_wrong_command(command, arguments, parts):
    check(command(*arguments), SPEC, *parts)
