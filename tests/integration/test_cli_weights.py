"""`deeptune weights`: from a stand-in of the hub to a pack, and to a machine without network that runs with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from hub import TEXTS, Hub, closed_port, save_tiny_bert


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub().running() as hub:
        folder = save_tiny_bert(tmp_path_factory.mktemp("repositories") / "tiny")
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
        hub.repositories = {"org/tiny": folder}
        hub.gated.add("org/gated")
        yield hub


def deeptune(home: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and k != "TRANSFORMERS_OFFLINE"}
    environment |= {"XDG_CACHE_HOME": str(home), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-m", "deeptune", *arguments],
        env=environment | {"no_proxy": "127.0.0.1"},
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def snapshot_files(home: Path) -> list[str]:
    return sorted(file.name for file in home.glob("huggingface/hub/models--org--tiny/snapshots/*/*"))


def test_weights_travel_from_the_hub_to_a_machine_without_network(tmp_path: Path, hub: Hub) -> None:
    there, here, nowhere = tmp_path / "there", tmp_path / "here", f"http://127.0.0.1:{closed_port()}"
    hub.cuts = [10_000]  # the first answer with weights ends early
    fetched = deeptune(there, hub.url, "weights", "fetch", "hf:org/tiny", "--json")
    assert fetched.returncode == 0, fetched.stderr
    assert not hub.cuts
    (row,) = json.loads(fetched.stdout)
    assert row["licence"] == "apache-2.0"
    assert "model.safetensors" in snapshot_files(there)

    packed = deeptune(there, nowhere, "weights", "pack", "hf:org/tiny", "-o", "weights.tar")
    assert packed.returncode == 0, packed.stderr
    again = deeptune(there, nowhere, "weights", "pack", "hf:org/tiny", "-o", "weights.tar")
    assert again.returncode == 2
    assert "exists" in again.stderr

    unpacked = deeptune(here, nowhere, "weights", "unpack", "weights.tar", "--json")
    assert unpacked.returncode == 0, unpacked.stderr
    assert snapshot_files(here) == snapshot_files(there)
    listed = json.loads(deeptune(here, nowhere, "weights", "list", "--json").stdout)
    assert {"name": "hf:org/tiny", "bytes": row["bytes"]}.items() <= listed[-1].items()

    pq.write_table(pa.table({"text": TEXTS * 10, "labels": [1, 0, 1, 0] * 10}), tmp_path / "texts.parquet")
    run = deeptune(
        here, nowhere, "run", "-o", "run", "--foreground", "--data", "texts.parquet",
        "--set", "backbone.name=hf:org/tiny", "--set", "train.epochs=1",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.glob("run/*/result.json"))


def test_other_bytes_than_the_hub_names_leave_no_weights(tmp_path: Path, hub: Hub) -> None:
    hub.spoiled = True
    try:
        failed = deeptune(tmp_path / "home", hub.url, "weights", "fetch", "hf:org/tiny")
    finally:
        hub.spoiled = False
    assert failed.returncode == 4
    assert failed.stderr.startswith("weights error: org/tiny")
    assert "Traceback" not in failed.stderr
    assert "model.safetensors" not in snapshot_files(tmp_path / "home")


def test_each_backbone_that_fails_is_one_message_and_the_others_come(tmp_path: Path, hub: Hub) -> None:
    done = deeptune(tmp_path / "home", hub.url, "weights", "fetch", "hf:org/gated", "hf:org/absent", "hf:org/tiny")
    assert done.returncode == 4
    assert "org/gated is gated" in done.stderr
    assert "no repository 'org/absent'" in done.stderr
    assert "hf:org/tiny" in done.stdout
    assert "model.safetensors" in snapshot_files(tmp_path / "home")


def test_a_name_that_is_none_is_known_before_anything_is_fetched(tmp_path: Path, hub: Hub) -> None:
    before = len(hub.requests)
    done = deeptune(tmp_path / "home", hub.url, "weights", "fetch", "hf:org/tiny", "resnet81")
    assert done.returncode == 4
    assert "resnet18" in done.stderr
    assert len(hub.requests) == before


def test_where_names_the_folder_and_what_is_missing(tmp_path: Path, hub: Hub) -> None:
    home = tmp_path / "home"
    places = json.loads(deeptune(home, hub.url, "weights", "where", "--json").stdout)
    assert places["torchvision"] == str(home / "torch" / "hub" / "checkpoints")
    missing = deeptune(home, hub.url, "weights", "where", "resnet18")
    assert missing.returncode == 4
    assert "deeptune weights fetch resnet18" in missing.stderr
