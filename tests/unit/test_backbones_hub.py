from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import COMMIT, Hub, closed_port, save_tiny_bert, save_tiny_gpt2
from huggingface_hub import constants

from deeptune.backbones import load_backbone
from deeptune.errors import WeightsError
from deeptune.spec.run_spec import BackboneSpec

# In a process of its own: huggingface_hub reads its environment once, when it is imported.
LOAD = """
import json, sys
from deeptune.backbones import load_backbone
from deeptune.spec.run_spec import BackboneSpec
found = {}
for name in sys.argv[1:]:
    backbone = load_backbone(BackboneSpec(name=name))
    found[name] = [backbone.fingerprint, backbone.preprocessing.tokenizer("a good film")["input_ids"]]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("repositories")
    with Hub().running() as hub:
        hub.repositories = {
            "org/tiny": save_tiny_bert(root / "tiny"),
            "openai-community/gpt2": save_tiny_gpt2(root / "gpt2"),
        }
        hub.repositories["org/no-config"] = root
        hub.gated.add("org/gated")
        yield hub


def run_load(home: Path, endpoint: str, *names: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and k != "TRANSFORMERS_OFFLINE"}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-c", LOAD, *names], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_repository_is_fetched_once_and_then_used_without_the_hub(tmp_path: Path, hub: Hub) -> None:
    names = ("hf:org/tiny", "gpt2")
    online = run_load(tmp_path, hub.url, *names)
    assert online.returncode == 0, online.stderr
    found = json.loads(online.stdout.splitlines()[-1])
    for name, repository in zip(names, ("org/tiny", "openai-community/gpt2"), strict=True):
        local = load_backbone(BackboneSpec(name=f"hf:{hub.repositories[repository]}"))
        assert found[name] == [local.fingerprint, local.preprocessing.tokenizer("a good film")["input_ids"]]
    snapshot = tmp_path / "hub" / "models--org--tiny" / "snapshots" / COMMIT
    assert {file.name for file in snapshot.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip

    offline = run_load(tmp_path, f"http://127.0.0.1:{closed_port()}", *names)
    assert offline.returncode == 0, offline.stderr
    assert json.loads(offline.stdout.splitlines()[-1]) == found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return monkeypatch


def point_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:org/absent", "There is no repository 'org/absent'"),
        ("hf:org/gated", "org/gated is gated"),
        ("hf:org/no-config", "has no config.json"),
        ("hf:not a name", "neither a folder on this machine nor the name of a Hugging Face repository"),
    ],
)
def test_an_answer_of_the_hub_is_told_apart_from_none(
    hub: Hub, here: pytest.MonkeyPatch, name: str, message: str
) -> None:
    point_at(here, hub.url)
    with pytest.raises(WeightsError) as error:
        load_backbone(BackboneSpec(name=name))
    assert message in error.value.message


@pytest.mark.parametrize("name", ["hf:org/tiny", "bert-base-cased"])
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_no_network_and_no_cache_is_one_quick_error_that_says_what_to_do(
    tmp_path: Path, here: pytest.MonkeyPatch, name: str, weights: str
) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    point_at(here, url)
    started = time.monotonic()
    with pytest.raises(WeightsError) as error:
        load_backbone(BackboneSpec(name=name, weights=weights))
    assert time.monotonic() - started < 15  # huggingface_hub alone retries for a minute
    repo = {"hf:org/tiny": "org/tiny", "bert-base-cased": "google-bert/bert-base-cased"}[name]
    message = str(error.value)
    cache = tmp_path / "hub" / ("models--" + repo.replace("/", "--"))
    for part in (repo, str(cache), f"{url}/{repo}", f"hf download {repo}", '"hf:FOLDER"', '"random"'):
        assert part in message
    assert ("model.safetensors" in message) == (weights == "pretrained")


def test_offline_mode_asks_nothing(hub: Hub, here: pytest.MonkeyPatch) -> None:
    point_at(here, hub.url)
    here.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        load_backbone(BackboneSpec(name="hf:org/tiny"))
    assert hub.requests == []


def test_a_cache_under_the_older_short_name_is_used(tmp_path: Path, hub: Hub, here: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "hub" / "models--gpt2"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    (cache / "snapshots").mkdir()
    (cache / "snapshots" / COMMIT).symlink_to(hub.repositories["openai-community/gpt2"])
    point_at(here, f"http://127.0.0.1:{closed_port()}")
    assert load_backbone(BackboneSpec(name="gpt2")).width == 32
