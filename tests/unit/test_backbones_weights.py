from __future__ import annotations

import hashlib
import json
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deeptune.backbones.weights import fingerprint, load_state, read_state, seeded
from deeptune.errors import WeightsError


def net() -> nn.Sequential:
    return nn.Sequential(OrderedDict(body=nn.Linear(3, 2), norm=nn.BatchNorm1d(2), head=nn.Linear(2, 5)))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(net().state_dict())


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pt", "a.bin"])
def test_read_state_gives_every_format_back(tmp_path: Path, state: dict[str, torch.Tensor], name: str) -> None:
    save_file(state, tmp_path / name) if name.endswith("safetensors") else torch.save(state, tmp_path / name)
    assert same(read_state(tmp_path / name), state)
    assert same(read_state(tmp_path), state)  # alone in its folder


@pytest.mark.parametrize("wrap", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_read_state_unwraps_training_checkpoints(
    tmp_path: Path, state: dict[str, torch.Tensor], wrap: str, prefix: str
) -> None:
    inner = {prefix + k: v for k, v in state.items()}
    torch.save({"epoch": 3, wrap: inner, "optimizer": {"lr": 0.1}}, tmp_path / "last.pth")
    assert same(read_state(tmp_path / "last.pth"), state)


def test_read_state_joins_the_files_of_an_index(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    names = list(state)
    for i, part in enumerate((names[:2], names[2:])):
        save_file({k: state[k] for k in part}, tmp_path / f"model-{i}.safetensors")
    weight_map = {k: f"model-{int(k not in names[:2])}.safetensors" for k in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert same(read_state(tmp_path), state)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("ran code",))


def test_code_in_a_pth_is_refused_and_not_run(
    tmp_path: Path, state: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": state, "args": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"x": Evil()}))
    for name in ("evil.pth", "old.pth"):
        with pytest.raises(WeightsError, match=r"refused: .*Python objects"):
            read_state(tmp_path / name)
    assert "ran code" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.98])
def test_damaged_files_are_named(tmp_path: Path, state: dict[str, torch.Tensor], name: str, keep: float) -> None:
    file = tmp_path / name
    save_file(state, file) if name.endswith("safetensors") else torch.save(state, file)
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(WeightsError, match=r"a\.(safetensors|pth): cannot be read as weights"):
        read_state(file)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"there is no file or folder .*nowhere\.pth"):
        read_state(tmp_path / "nowhere.pth")
    with pytest.raises(WeightsError, match="found none"):
        read_state(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(WeightsError, match="not a weight file"):
        read_state(tmp_path / "notes.txt")
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="no named tensors"):
        read_state(tmp_path / "a.pth")


@pytest.mark.parametrize(("name", "said"), [("tf_model.h5", "TensorFlow"), ("model.Q4.gguf", r"llama\.cpp")])
def test_weights_of_another_tool_alone_in_a_folder_are_named(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(WeightsError, match=rf"found none but {name}, which is for {said}") as error:
        read_state(tmp_path)
    assert "safetensors" in str(error.value.hint)


def test_an_adapter_is_not_taken_for_a_model(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    save_file(state, tmp_path / "adapter_model.safetensors")
    with pytest.raises(WeightsError, match="an adapter of PEFT, and not the model") as error:
        read_state(tmp_path)
    assert "merge_and_unload" in str(error.value.hint)


def test_load_state_is_strict_on_all_but_the_classifier(state: dict[str, torch.Tensor]) -> None:
    target = net()
    target.head = nn.Identity()
    old = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    load_state(target, old, source="f", ignore=("head.",))
    assert torch.equal(target.body.weight, state["body.weight"])

    bad = dict(state)
    bad["extra.weight"] = bad.pop("body.weight")
    bad["body.bias"] = torch.zeros(7)
    with pytest.raises(WeightsError) as error:
        load_state(target, bad, source="f.pth", ignore=("head.",))
    assert "f.pth does not fit" in error.value.message
    assert "1 missing: body.weight" in error.value.message
    assert "1 unexpected: extra.weight" in error.value.message
    assert "1 of another shape: body.bias (7,) instead of (2,)" in error.value.message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(state: dict[str, torch.Tensor], value: float) -> None:
    state["body.weight"][0, 0] = value
    with pytest.raises(WeightsError, match=r"f.pth holds NaN or infinite values in 1 weights: body.weight"):
        load_state(net(), state, source="f.pth")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantized_weights_are_not_read_as_numbers(tmp_path: Path, state: dict[str, torch.Tensor], dtype) -> None:
    state["body.weight"] = state["body.weight"].to(dtype)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"holds 1 quantized weights: body.weight \((u?int8|float8_e4m3fn)\)"):
        read_state(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_16_and_64_bits_are_read(tmp_path: Path, state: dict[str, torch.Tensor], dtype) -> None:
    save_file({name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path / "a.safetensors")
    load_state(net(), read_state(tmp_path / "a.safetensors"), source="a")


def test_fingerprint_is_the_sha256_of_names_dtypes_shapes_and_bytes() -> None:
    state = {"b": torch.tensor([1.5, 2.0], dtype=torch.bfloat16), "a": torch.tensor(3), "c": torch.zeros(0, 2)}
    digest = hashlib.sha256()
    for name, dtype, shape, content in (
        ("a", "torch.int64", "()", (3).to_bytes(8, "little")),
        ("b", "torch.bfloat16", "(2,)", b"\xc0\x3f\x00\x40"),
        ("c", "torch.float32", "(0, 2)", b""),
    ):
        digest.update(f"{name}\0{dtype}\0{shape}\0".encode() + content)
    assert fingerprint(state) == "sha256:" + digest.hexdigest()
    assert fingerprint(dict(reversed(state.items()))) == fingerprint(state)
    assert fingerprint({**state, "a": torch.tensor(4)}) != fingerprint(state)
    turned = torch.arange(6.0).view(2, 3).t()
    assert fingerprint({"x": turned}) == fingerprint({"x": turned.contiguous()})


def test_seeded_repeats_itself_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1):
        assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize(
    ("content", "words", "hint"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 440449768\n",
            "Git LFS pointer",
            "git lfs pull",
        ),
        ("<!DOCTYPE html><html>Sign in</html>", "web page", "raw, resolve or download"),
    ],
)
def test_what_came_in_place_of_weights_is_named(tmp_path: Path, name: str, content: str, words: str, hint: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(WeightsError, match=words) as caught:
        read_state(tmp_path / name)
    assert hint in str(caught.value.hint)
