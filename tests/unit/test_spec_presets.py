"""The presets that ship, and the schema beside them."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from deeptune.catalog import CATALOG, find
from deeptune.cli.spec import schema_text
from deeptune.data.sources.parquet import sample_names
from deeptune.errors import SpecError
from deeptune.spec import load_spec
from deeptune.spec.backbone_info import backbone_info
from deeptune.spec.fields import field_rows
from deeptune.spec.presets import find_spec_file, preset_files, presets_folder, summary

SCHEMA = json.loads(schema_text())


def test_there_are_presets_and_each_loads():
    files = preset_files()
    assert len(files) >= 24
    assert "gpt2_text" in files
    assert "quickstart" in files
    for file in files.values():
        load_spec(file)


def test_every_family_and_method_has_a_preset():
    specs = [load_spec(file) for file in preset_files().values()]
    have = {(find(spec.backbone.name).family, spec.tuning.method) for spec in specs}
    assert {family for family, _ in have} == {row.family for row in CATALOG.values()}
    assert have >= set(product({row.family for row in CATALOG.values()}, ("partial", "full", "lora")))
    kinds = {(backbone_info(spec.backbone).modality, spec.tuning.method) for spec in specs}
    assert kinds == {*product(("image", "text"), ("partial", "full", "lora")), ("image_text", "partial")}
    assert {(find(spec.backbone.name).modality, spec.task) for spec in specs} == set(
        product(("image", "text"), ("classification", "regression"))
    )


@pytest.mark.parametrize("name", preset_files())
def test_a_preset_names_the_schema_tells_its_use_and_its_sample_exists(name):
    file = preset_files()[name]
    assert file.read_text().splitlines()[0] == "#:schema ./spec.schema.json"
    assert 10 < len(summary(file)) < 80
    spec = load_spec(file)
    path = spec.data.path
    if isinstance(path, str) and path.startswith("sample:"):
        assert path.removeprefix("sample:") in sample_names()


def test_the_schema_beside_the_presets_is_the_specs():
    """`deeptune spec schema --output presets/spec.schema.json` makes it again."""
    assert (presets_folder() / "spec.schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_schema_knows_every_key_and_no_other():
    def keys(schema: dict[str, Any], prefix: str = "") -> set[str]:
        assert schema["additionalProperties"] is False
        found = set()
        for name, below in schema["properties"].items():
            if "$ref" in (section := next(iter(below.get("anyOf", [{}])))):  # a section that may be left out
                below = section
            if "$ref" in below:
                found |= keys(SCHEMA["$defs"][below["$ref"].rpartition("/")[2]], f"{prefix}{name}.")
            else:
                assert below.get("description"), name
                found.add(prefix + name)
        return found

    assert keys(SCHEMA) == {key for key, _, _ in field_rows()}
    assert SCHEMA["required"] == ["data", "backbone"]


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value fits a JSON Schema, for the keywords that this schema uses; another keyword is an error."""
    kinds = {
        "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict,
        "null": type(None),
    }  # fmt: skip
    checks = {
        "$ref": lambda ref: accepts(SCHEMA["$defs"][ref.rpartition("/")[2]], value),
        "anyOf": lambda options: any(accepts(option, value) for option in options),
        "type": lambda kind: isinstance(value, kinds[kind]) and (kind == "boolean" or not isinstance(value, bool)),
        "enum": lambda options: value in options,
        "const": lambda only: value == only,
        "minimum": lambda bound: value >= bound,
        "maximum": lambda bound: value <= bound,
        "exclusiveMinimum": lambda bound: value > bound,
        "exclusiveMaximum": lambda bound: value < bound,
        "pattern": lambda pattern: re.search(pattern, value) is not None,
        "items": lambda item: all(accepts(item, one) for one in value),
        "required": lambda names: all(name in value for name in names),
        "properties": lambda known: all(accepts(known[name], item) for name, item in value.items() if name in known),
        "additionalProperties": lambda rule: all(
            rule is not False and accepts(rule, item)
            for name, item in value.items()
            if name not in schema.get("properties", {})
        ),
    }
    silent = {"title", "description", "default", "$defs", "$schema"}
    keywords = [keyword for keyword in schema if keyword not in silent]
    if "type" in schema and not checks["type"](schema["type"]):
        return False
    return all(checks[keyword](schema[keyword]) for keyword in keywords)


@pytest.mark.parametrize("name", preset_files())
def test_a_preset_fits_the_schema_before_and_after_defaults(name):
    spec = load_spec(preset_files()[name])
    assert accepts(SCHEMA, spec.model_dump(mode="json", exclude_unset=True))
    assert accepts(SCHEMA, spec.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("train", {"epochs": 0}), ("train", {"epochs": "many"}), ("train", {"epochs": True}), ("train", {"epoch": 1}),
        ("head", {"layers": 3}), ("tuning", {"method": "loar"}), ("train", {"class_weights": {"a": 0}}),
        ("data", {"split": {"train": 2}}), ("embed", {"splits": ["tset"]}),
    ],
)  # fmt: skip
def test_the_schema_refuses_what_the_spec_refuses(section, values):
    whole = {"data": {"path": "x"}, "backbone": {"name": "gpt2"}}
    assert accepts(SCHEMA, whole)
    assert not accepts(SCHEMA, {**whole, section: {**whole.get(section, {}), **values}})


def test_a_name_or_a_path_finds_a_spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_spec_file("gpt2_text") == presets_folder() / "gpt2_text.toml"
    Path("gpt2_text").write_text("")
    assert find_spec_file("gpt2_text") == Path("gpt2_text")  # a file of one's own comes first
    for wrong in ("gpt2_txt", "gpt2_txt.toml", "", "../presets", "x" * 5000, "\x1b[31m"):
        with pytest.raises(SpecError, match="no run spec"):
            find_spec_file(wrong)


def test_every_key_has_a_default_or_is_required_and_says_what_it_accepts():
    rows = field_rows()
    assert [key for key, default, _ in rows if default == "(required)"] == ["backbone.name"]
    assert all(" Accepts " in meaning for _, _, meaning in rows)
    assert {key: default for key, default, _ in rows}["train.warmup"] == "0.1"
