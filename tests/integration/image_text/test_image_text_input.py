"""An image with a text as the input of a spec: its columns, bad rows and duplicates, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from posts import rows_of

from deeptune.data.cache.entry import entries
from deeptune.data.splits.planner import plan_data
from deeptune.engine.dry_run import describe
from deeptune.engine.prepare import prepare
from deeptune.engine.run import execute
from deeptune.errors import DataError, DeepTuneError, SpecError, WeightsError
from deeptune.runs import new_run_directory, write_text
from deeptune.runs.files import read_json
from deeptune.spec import RunSpec, dump_spec, load_spec
from deeptune.spec.toml import parse_toml, validate

pytestmark = pytest.mark.usefixtures("no_reports")


def test_the_modality_and_the_order_of_the_columns_are_inferred(spec_of: Callable[..., RunSpec]) -> None:
    plan = plan_data(spec_of(data={"input": ["caption", "images"]}))
    assert (plan.modality, plan.input) == ("image_text", ["images", "caption"])


def test_the_usual_columns_are_found_by_the_modality(spec_of: Callable[..., RunSpec], tmp_path: Path) -> None:
    pq.write_table(rows_of(40, seed=0).rename_columns(["images", "text", "labels", "noted"]), tmp_path / "x.parquet")
    plan = plan_data(spec_of(data={"path": str(tmp_path / "x.parquet"), "input": None, "modality": "image_text"}))
    assert plan.input == ["images", "text"]


def test_a_row_is_bad_where_either_part_is(spec_of: Callable[..., RunSpec], spoiled: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepare(spec_of(data={"path": str(spoiled)}))
    assert "4 of 120 samples" in caught.value.message
    assert "row 3 is null (column 'caption')" in caught.value.message
    assert "row 8 is null (column 'images') and is null (column 'caption')" in caught.value.message
    assert "row 11 is blank (column 'caption')" in caught.value.message


@pytest.mark.parametrize("policy", ["skip", "blank"])
def test_bad_rows_are_left_out_or_replaced(
    spec_of: Callable[..., RunSpec], spoiled: Path, tmp_path: Path, policy: str
) -> None:
    run = new_run_directory(tmp_path, policy)
    execute(spec_of(data={"path": str(spoiled), "on_bad_sample": policy}, epochs=1), run)
    result = read_json(run.result)
    assert sorted(sample["row"] for sample in result["skipped"]) == [3, 5, 8, 11]
    assert sum(result["rows"].values()) == (116 if policy == "skip" else 120)


def test_only_the_bad_part_of_a_row_is_replaced(spec_of: Callable[..., RunSpec], spoiled: Path) -> None:
    from deeptune.data.loading.dataset import SampleOptions

    ready = prepare(spec_of(data={"path": str(spoiled), "on_bad_sample": "blank"}))
    (samples,) = ready.samples.values()
    blank = frozenset([3, 5, 8, 11])
    assert samples.blank_in("image", blank) == {5, 8}
    assert samples.blank_in("text", blank) == {3, 8, 11}
    inputs = samples.inputs(SampleOptions(blank=blank)).batch(np.array([3, 5]), 0)
    whites = inputs["images"].float().mean(dim=(1, 2, 3))
    assert whites[0] < 200
    assert whites[1] == 255


def test_features_do_not_depend_on_bad_rows_of_the_other_part(
    spec_of: Callable[..., RunSpec], spoiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    data = {"path": str(spoiled), "on_bad_sample": "skip"}
    execute(spec_of(data=data, epochs=1), new_run_directory(tmp_path, "both"))
    before = len(entries())
    values = spec_of(data=data, epochs=1).model_dump()
    values["data"]["input"], values["backbone"]["text"] = "images", None
    execute(validate(values), new_run_directory(tmp_path, "alone"))
    assert len(entries()) == before


def test_duplicates_are_equal_in_both_parts(spec_of: Callable[..., RunSpec], tmp_path: Path) -> None:
    table = rows_of(60, seed=0).to_pydict()
    for name in ("images", "caption"):
        table[name][1] = table[name][0]
    table["images"][2] = table["images"][3]
    table["caption"][2], table["caption"][3] = "a day of sun and snow", "a day of ice and fire"
    table["labels"][1] = table["labels"][0]
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    spec = spec_of(data={"path": str(tmp_path / "x.parquet"), "duplicates": "group"})
    for plan in (prepare(spec).plan, plan_data(spec)):
        table = plan.splits_table()
        found = dict(zip(table["row"].to_pylist(), table["duplicate_set"].to_pylist(), strict=True))
        assert [row for row, number in found.items() if number] in ([0, 1], [1, 0])


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"backbone": {"text": None}}, SpecError, "backbone.text.name: the data is images with texts"),
        ({"backbone": {"text": {"name": "vgg16"}}}, SpecError, "backbone.text.name: 'vgg16' is a backbone for images"),
        ({"backbone": {"name": "gpt2"}}, SpecError, "backbone.name: 'gpt2' is a backbone for texts"),
        ({"backbone": {"text": {"name": "bort"}}}, WeightsError, "backbone.text.name: there is no backbone 'bort'"),
        ({"data": {"input": "images"}}, SpecError, "backbone.text: the data is images (column 'images')"),
        ({"data": {"input": ["images", "caption", "noted"]}}, DataError, "data.input: column 'noted'"),
        ({"data": {"modality": "image_text", "input": "caption"}}, DataError, "data.input: one column is named"),
        ({"tuning": {"unfreeze": 1}}, SpecError, "tuning.unfreeze: timm:test_resnet + hf:"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    spec_of: Callable[..., RunSpec], change: dict[str, Any], kind: type[DeepTuneError], message: str
) -> None:
    values = spec_of().model_dump()
    for section, changes in change.items():
        values[section] |= changes
    with pytest.raises(kind) as caught:
        prepare(validate(values))
    assert caught.value.message.startswith(message)


def test_an_option_of_the_text_backbone_is_named_with_its_section(spec_of: Callable[..., RunSpec], bert: Path) -> None:
    values = spec_of().model_dump()
    values["backbone"]["text"] |= {"max_length": 500}
    with pytest.raises(DeepTuneError, match=r"^backbone\.text\.max_length: "):
        prepare(validate(values))


def test_the_spec_goes_through_toml(spec_of: Callable[..., RunSpec]) -> None:
    spec = spec_of("lora")
    assert validate(parse_toml(dump_spec(spec))) == spec


def test_a_key_of_the_text_backbone_can_be_set(tmp_path: Path) -> None:
    spec = load_spec(None, ["data.path=x.parquet", "backbone.name=resnet50", "backbone.text.name=bert"])
    assert spec.backbone.text.name == "bert"
    with pytest.raises(SpecError, match=r"backbone\.text\.image_size: unknown key"):
        load_spec(
            None, ["data.path=x", "backbone.name=resnet50", "backbone.text.name=bert", "backbone.text.image_size=9"]
        )


def test_a_dry_run_describes_both_backbones(spec_of: Callable[..., RunSpec], command: Any, tmp_path: Path) -> None:
    spec = spec_of()
    assert describe(spec)["backbone"]["text"]["input_size"] == 32
    write_text(tmp_path / "spec.toml", dump_spec(spec))
    answer = command("run", str(tmp_path / "spec.toml"), "--dry-run")
    assert answer.code == 0, answer.stderr
    assert "32 px" in answer.stdout
    assert "32 tokens" in answer.stdout
