"""A backbone by the name that its page on a hub shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeptune.catalog import CATALOG, find
from deeptune.errors import WeightsError


@pytest.mark.parametrize(
    "name",
    [
        "timm/resnet18.a1_in1k",
        "timm:timm/resnet18.a1_in1k",
        "timm:hf-hub:timm/resnet18.a1_in1k",
        "timm:hf_hub:timm/resnet18.a1_in1k",
        "hf:timm/resnet18.a1_in1k",
        "hf-hub:timm/resnet18.a1_in1k",
        "https://huggingface.co/timm/resnet18.a1_in1k",
        "timm:https://huggingface.co/timm/resnet18.a1_in1k/tree/main",
        "hf:https://hf.co/timm/resnet18.a1_in1k?library=timm",
        "huggingface.co/timm/resnet18.a1_in1k/",
    ],
)
def test_timm_models_are_found_by_every_spelling(name: str) -> None:
    assert (find(name).name, find(name).source) == ("timm:resnet18.a1_in1k", "resnet18.a1_in1k")


@pytest.mark.parametrize(
    "name",
    [
        "sentence-transformers/all-MiniLM-L6-v2",
        "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        "hf:https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/blob/main/config.json",
        "hf-hub:sentence-transformers/all-MiniLM-L6-v2",
    ],
)
def test_text_models_are_found_by_every_spelling(name: str) -> None:
    assert find(name) == find("hf:sentence-transformers/all-MiniLM-L6-v2")


def test_a_repository_of_the_catalog_is_its_row() -> None:
    assert find("google-bert/bert-base-cased") == CATALOG["bert-base-cased"]
    assert find("hf:google-bert/bert-base-cased").family == "hf"


def test_a_folder_comes_before_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm" / "mine").mkdir(parents=True)
    assert find("hf:timm/mine").source == "timm/mine"


def test_another_owners_model_behind_timm_is_told_by_its_name() -> None:
    with pytest.raises(WeightsError, match="not a model of timm's own collection") as error:
        find("timm:somebody/model")
    assert "hf:somebody/model" in str(error.value)


@pytest.mark.parametrize("name", ["./folder", "~/folder", "https://example.com/a/b", "resnet19", "a/b/c"])
def test_what_is_no_name_stays_unknown(name: str) -> None:
    with pytest.raises(WeightsError, match="there is no backbone"):
        find(name)
