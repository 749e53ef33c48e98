"""A spec in TOML: in, out, overridden, and every error at once with its place."""

from __future__ import annotations

import copy
import os
import tomllib
from typing import Any

import pytest

from deeptune.catalog import find
from deeptune.errors import SpecError
from deeptune.spec import RunSpec, dump_spec, load_spec
from deeptune.spec.backbone_info import backbone_info
from deeptune.spec.defaults import resolve, run_name
from deeptune.spec.estimate import count_steps
from deeptune.spec.presets import preset_files
from deeptune.spec.tasks import TASKS
from deeptune.spec.toml import apply_override, key_lines, validate

OVERSAMPLING: dict[str, Any] = {"data": {"path": "x.parquet"}, "backbone": {"name": "resnet18"}}


def problems(*overrides: str, values: dict[str, Any] = OVERSAMPLING) -> list[str]:
    """The lines of the SpecError that overrides of a small spec give."""
    spec = copy.deepcopy(values)
    overridden = {apply_override(spec, override): "--set" for override in overrides}
    with pytest.raises(SpecError) as caught:
        validate(spec, overridden=overridden)
    return lines_of(caught.value)


def lines_of(error: SpecError) -> list[str]:
    first, *lines = error.message.splitlines()
    assert first.startswith("1 problem in" if len(lines) == 1 else f"{len(lines)} problems in")
    assert "deeptune spec fields" in error.hint
    return [line.strip() for line in lines]


@pytest.mark.parametrize("name", preset_files())
def test_every_preset_survives_a_round_trip(tmp_path, name):
    spec = load_spec(preset_files()[name])
    info = backbone_info(spec.backbone)
    for version in (spec, resolve(spec, info, cnn=info.is_cnn, rows=500)):
        (tmp_path / "spec.toml").write_text(dump_spec(version, comment="two\nlines"))
        assert load_spec(tmp_path / "spec.toml") == version


def test_a_resolved_spec_resolves_to_itself():
    for file in preset_files().values():
        spec = load_spec(file)
        info = backbone_info(spec.backbone)
        once = resolve(spec, info, cnn=info.is_cnn, rows=500)
        assert resolve(once, info, cnn=info.is_cnn, rows=500) == once


def test_what_toml_cannot_say_plainly_survives(tmp_path):
    values = {
        "data": {"path": ['a "quoted" \\ path.parquet', "\x1b[31m", "ünï"], "label": "[bold]x[/]", "group": "a.b"},
        "backbone": {"name": "timm:x"},
        "train": {"class_weights": {"a.b c": 1.5, "": 0.25, "7": 1e-12}, "learning_rate": 1e-30},
    }  # fmt: skip
    (tmp_path / "spec.toml").write_text(dump_spec(validate(values)), encoding="utf-8")
    assert load_spec(tmp_path / "spec.toml") == validate(values)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("name=reviews", "name", "reviews"),
        ('name="reviews"', "name", "reviews"),
        ("train.epochs=5", "train.epochs", 5),
        (" train.epochs = 5 ", "train.epochs", 5),
        ("train.learning_rate=1e-3", "train.learning_rate", 0.001),
        ("train.learning_rate=auto", "train.learning_rate", "auto"),
        ("data.path=a b/c=d.parquet", "data.path", "a b/c=d.parquet"),
        ("data.path=C:\\x.parquet", "data.path", "C:\\x.parquet"),
        ("data.path='C:\\x'", "data.path", "C:\\x"),
        ("data.path=[\"a\", 'b']", "data.path", ["a", "b"]),
        ("embed.splits=[]", "embed.splits", []),
        ("data.split={train=0.5, val=0.25, test=0.25}", "data.split", {"train": 0.5, "val": 0.25, "test": 0.25}),
        ("data.split.val=0.5", "data.split.val", 0.5),
        ("tuning.lora.rank=4", "tuning.lora.rank", 4),
        ("x.y=true", "x.y", True),
        ("x.y=2024-01-02x", "x.y", "2024-01-02x"),
    ],
)
def test_an_override_is_a_toml_value_or_a_bare_word(override, key, value):
    values: dict = {"train": {"seed": 1}}
    assert apply_override(values, override) == key
    for part in key.split("."):
        values = values[part]
    assert values == value
    assert type(values) is type(value)


@pytest.mark.parametrize(
    "override",
    ["train.epochs", "=5", "train..epochs=5", ".epochs=5", "train.=5", "a b=1", "train[0]=1", "1a=2", "", "\x1b=1"],
)
def test_an_override_of_another_form_is_refused(override):
    with pytest.raises(SpecError, match=r"is not of the form section\.key=value"):
        apply_override({}, override)


@pytest.mark.parametrize("text", ["", "[1, 2", '"open', "{a=1", "'x"])
def test_a_value_that_begins_as_toml_must_be_toml(text):
    with pytest.raises(SpecError, match="is not a TOML value"):
        apply_override({}, f"train.epochs={text}")


def test_an_override_of_a_section_and_of_a_value(tmp_path):
    (tmp_path / "s.toml").write_text('[data]\npath = "x"\n[backbone]\nname = "gpt2"\n[data.split]\ntrain = 0.8\n')
    spec = load_spec(tmp_path / "s.toml", ["data.split.val=0.1", "data.split.test=0.1", "data.split.train=0.8"])
    assert spec.data.split.val == 0.1
    with pytest.raises(SpecError, match="'path' is a value, not a section"):
        load_spec(tmp_path / "s.toml", ["data.path.x=1"])


def test_data_takes_the_place_of_every_file_named(tmp_path):
    (tmp_path / "s.toml").write_text('[data]\ntrain = "a"\ntest = "b"\nlabel = "y"\n[backbone]\nname = "gpt2"\n')
    data = load_spec(tmp_path / "s.toml", data="c.parquet").data
    assert (data.path, data.train, data.val, data.test, data.label) == ("c.parquet", None, None, None, "y")
    assert load_spec(None, ["backbone.name=gpt2"], data="c").data.path == "c"


def test_a_path_that_is_no_text_is_refused():
    path = os.fsdecode(b"\xff.parquet")
    for arguments in ({"data": path}, {"overrides": [f"data.path={path}"]}):
        with pytest.raises(SpecError, match="is not valid UTF-8"):
            load_spec(None, **arguments)


def test_all_errors_at_once_with_path_and_line(tmp_path):
    text = """task = "clasification"  # line 1
[data]
path = "x.parquet"
splits = { train = 0.9 }
on_bad_sample = "ignore"

[ backbone ]
name = "resnet18"
image_size = 4

[tuning]
lora = { rank = 0, alhpa = 3 }

[train.early_stopping]
patience = -1
"""
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "my.toml", ["train.epochs=none", "nonsense.x=1"])
    *others, last = map(repr, sorted(TASKS))
    known = f"{', '.join(others)} or {last}"
    assert lines_of(caught.value) == [
        f"line 1: task: expected {known}, got 'clasification'. Did you mean 'classification'?",
        "line 4: data.splits: unknown key. Did you mean 'split'?",
        "line 5: data.on_bad_sample: expected 'error', 'skip' or 'blank', got 'ignore'.",
        "line 9: backbone.image_size: expected an integer of at least 8 and of at most 4,096 or 'auto', got 4.",
        "line 12: tuning.lora.rank: expected an integer of at least 1 or 'auto', got 0.",
        "line 12: tuning.lora.alhpa: unknown key. Did you mean 'alpha'?",
        "line 15: train.early_stopping.patience: expected an integer of at least 0 or 'auto', got -1.",
        "--set: train.epochs: expected an integer of at least 1 or 'auto', got 'none'.",
        "--set: nonsense: unknown key. Known keys: name, task, data, backbone, head, tuning, train, calibration, "
        "embed, report.",
    ]


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("train.epochs=true", "train.epochs: expected an integer of at least 1 or 'auto', got True"),
        ("head.dropout=false", "head.dropout: expected a number of at least 0 and below 1, got False"),
        ("head.layers=true", "head.layers: expected 1 or 2, got True"),
        ("train.seed=1.0", "train.seed: expected an integer of at least 0 and below 4,294,967,296, got 1.0"),
        ("train.seed=4294967296", "train.seed: expected an integer"),
        ("train.epochs=inf", "train.epochs: expected an integer"),
        ("train.learning_rate=nan", "train.learning_rate: expected a number above 0 or 'auto', got nan"),
        ("train.learning_rate=inf", "train.learning_rate: expected a number above 0 or 'auto', got inf"),
        ("train.learning_rate=0", "train.learning_rate: expected a number above 0 or 'auto', got 0"),
        ("train.clip_norm=inf", "train.clip_norm: expected a number of at least 0, got inf"),
        ("data.split.train=nan", "data.split.train: expected a number of at least 0 and of at most 1, got nan"),
        ("data.label=3", "data.label: expected text or a list of text, got 3"),
        ("data.path=3", "data.path: expected text or a list of text, got 3"),
        ("data.path=[1]", "data.path: expected text or a list of text, got [1]"),
        ("data.path=[]", "data.path: is empty"),
        ('data.path=["a", ""]', "data.path: is empty"),
        ("train=3", "train: expected a table of keys, got 3"),
        ("data='a.parquet'", "data: expected a table of keys, got 'a.parquet'. Name a file: data.path = "),
        ("train.device=gpu", "train.device: expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'"),
        ("train.device=cuda:x", "train.device: expected"),
        ("name=a/b", "name: expected text matching"),
        ("name=../x", "name: expected text matching"),
        ("name=.x", "name: expected text matching"),
        ("embed.splits=[\"trian\"]", "embed.splits: expected a list of 'train', 'val' or 'test', got"),
        ("train.class_weights={a=0}", "train.class_weights: expected 'none' or 'balanced' or a table of numbers"),
        ("tuning.method=LORA", "tuning.method: expected 'partial', 'full' or 'lora', got 'LORA'. Did you mean 'lora'?"),
        ("train.early_stopping.metric=val/acuracy", "train.early_stopping.metric: 'val/acuracy' is not a metric"),
        ("train.early_stopping.metric=val/r2", "train.early_stopping.metric: 'val/r2' is not a metric"),
        ("train.loss=mse", "train.loss: 'mse' needs numbers"),
        ("data.split.val=0.2", "data.split: train, val and test must sum to 1, but 0.7 + 0.2 + 0.2 = 1.1"),
        ("data.split={train=0, val=0.5, test=0.5}", "data.split: train must be more than 0"),
        ("data.train=y", "data: give either `path` or `train`"),
    ],
)  # fmt: skip
def test_what_a_value_may_be(override, start):
    (found,) = problems(override)
    assert found.removeprefix("--set: ").startswith(start)


def test_the_task_and_what_does_not_fit_it():
    found = problems(
        "task=regression", "train.loss=cross_entropy", "train.class_weights=balanced", "train.label_smoothing=0.1",
        "train.early_stopping.metric=val/accuracy",
    )  # fmt: skip
    assert [line.removeprefix("--set: ").partition(": ")[0] for line in found] == [
        "train.early_stopping.metric", "train.loss", "train.class_weights", "train.label_smoothing",
    ]  # fmt: skip


def test_no_data_and_parts_without_train():
    assert problems(values={"backbone": {"name": "x"}}) == [
        "data: is missing. Name a file: data.path = 'scans.parquet'."
    ]
    for data in ({}, {"test": "x"}):
        (found,) = problems(values={"data": data, "backbone": {"name": "x"}})
        assert found.startswith("data: no data named")


@pytest.mark.parametrize("share", [1 / 3, 0.1 + 0.2])
def test_proportions_sum_within_float_error(share):
    rest = 1 - share - 0.1
    spec = validate({**OVERSAMPLING, "data": {"path": "x", "split": {"train": rest, "val": 0.1, "test": share}}})
    assert spec.data.split.test == share


def test_integers_are_numbers_too():
    assert validate({**OVERSAMPLING, "train": {"clip_norm": 1, "learning_rate": 1}}).train.learning_rate == 1.0


def test_a_spec_is_frozen_and_hides_no_alias():
    spec = validate(OVERSAMPLING)
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "x"  # type: ignore[misc]
    assert RunSpec.model_validate(spec.model_dump()) == spec


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[data\n", "is not valid TOML: .*line 1"),
        (b"a = 1\na = 2\n", "is not valid TOML"),
        (b"\xff\xfe", "is not a text file"),
        (None, "cannot read .*No such file"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path, content, message):
    if content is not None:
        (tmp_path / "s.toml").write_bytes(content)
    with pytest.raises(SpecError, match=message):
        load_spec(tmp_path / "s.toml")


def test_lines_of_keys():
    text = 'a = 1\n\n[ b . "c" ] # comment\nd.e = 2\n"f" = [\n  3,\n]\n[b]\nx=1\n'
    assert key_lines(text) == {"a": 1, "b.c": 3, "b.c.d.e": 4, "b.c.f": 5, "b": 8, "b.x": 9}
    assert tomllib.loads(text)["b"] == {"c": {"d": {"e": 2}, "f": [3]}, "x": 1}


@pytest.mark.parametrize(
    ("backbone", "name", "expected"),
    [
        ("resnet18", None, "resnet18-partial"),
        ("hf:org/Model-7B", None, "Model-7B-partial"),
        ("hf:/a/b c/", None, "b-c-partial"),
        ("timm:vit.x", None, "vit.x-partial"),
        ("hf:/../", None, "run-partial"),
        ("hf:/" + "x" * 300, None, "x" * 64),
        ("resnet18", "mine", "mine"),
    ],
)
def test_the_name_of_a_run_is_always_a_name(backbone, name, expected):
    spec = validate({**OVERSAMPLING, "backbone": {"name": backbone}, "name": name})
    assert run_name(spec) == expected
    assert validate({**OVERSAMPLING, "name": run_name(spec)}).name == expected


@pytest.mark.parametrize(
    ("method", "rows", "decay"), [("partial", 500, 8.0), ("partial", 6000, 1.0), ("full", 6000, 0.01)]
)
def test_the_penalty_of_a_frozen_head_is_fixed_in_the_sum_of_the_losses(method: str, rows: int, decay: float) -> None:
    values = {"data": {"path": "x"}, "backbone": {"name": "resnet18"}, "tuning": {"method": method}}
    assert resolve(validate(values), find("resnet18"), cnn=True, rows=rows).train.weight_decay == decay
    given = validate({**values, "train": {"weight_decay": 0.2}})
    assert resolve(given, find("resnet18"), cnn=True, rows=rows).train.weight_decay == 0.2


@pytest.mark.parametrize(
    ("backbone", "tuning", "rows", "size"),
    [
        ("bert-base-uncased", {"method": "full"}, 1000, 16),
        ("bert-base-uncased", {"method": "full"}, 1001, 32),
        ("gpt2", {"method": "lora"}, 300, 16),
        ("gpt2", {"unfreeze": 1}, 300, 16),
        ("gpt2", {"method": "partial"}, 300, 64),
        ("vit_b_16", {"method": "full"}, 300, 32),
    ],
)
def test_few_texts_fine_tune_in_smaller_batches(backbone: str, tuning: dict, rows: int, size: int) -> None:
    values = {"data": {"path": "x"}, "backbone": {"name": backbone}, "tuning": tuning}
    assert resolve(validate(values), find(backbone), cnn=False, rows=rows).train.batch_size == size
    given = validate({**values, "train": {"batch_size": 8}})
    assert resolve(given, find(backbone), cnn=False, rows=rows).train.batch_size == 8


@pytest.mark.parametrize(
    ("backbone", "tuning", "rows", "epochs"),
    [
        ("bert-base-uncased", {"method": "full"}, 100, 10),
        ("bert-base-uncased", {"method": "full"}, 350, 10),
        ("bert-base-uncased", {"method": "full"}, 875, 4),
        ("bert-base-uncased", {"method": "full"}, 1167, 3),
        ("gpt2", {"method": "lora"}, 500, 7),
        ("gpt2", {"unfreeze": 1}, 50_000, 3),
        ("vit_b_16", {"method": "full"}, 500, 7),
        ("resnet18", {"method": "full"}, 50_000, 10),
    ],
)
def test_few_rows_fine_tune_for_more_epochs(backbone: str, tuning: dict, rows: int, epochs: int) -> None:
    values = {"data": {"path": "x"}, "backbone": {"name": backbone}, "tuning": tuning}
    cnn = backbone == "resnet18"
    assert resolve(validate(values), find(backbone), cnn=cnn, rows=rows).train.epochs == epochs
    steps = count_steps(validate(values), find(backbone), rows)
    resolved = resolve(validate(values), find(backbone), cnn=cnn, rows=rows)
    assert steps == count_steps(resolved, find(backbone), rows) > 0
    given = validate({**values, "train": {"epochs": 2}})
    assert resolve(given, find(backbone), cnn=cnn, rows=rows).train.epochs == 2


@pytest.mark.parametrize("method", ["full", "lora"])
def test_blocks_learn_apart_only_in_a_frozen_backbone(method):
    with pytest.raises(SpecError, match=rf"unfreeze = 2 is for method = 'partial', and '{method}' trains"):
        validate(
            {
                "data": {"path": "x"},
                "backbone": {"name": "resnet18"},
                "tuning": {"method": method, "unfreeze": 2},
            }
        )
