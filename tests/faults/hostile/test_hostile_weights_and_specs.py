"""Weights, backbones, specs and names of runs made to do harm: refused with one clear message, and nothing is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from deeptune.errors import SpecError, WeightsError
from deeptune.runs import find_run
from deeptune.spec import load_spec
from deeptune.spec.presets import find_spec_file

VALID = '[data]\npath = "sample:openclipart7"\n[backbone]\nname = "resnet18"\n'

pytestmark = pytest.mark.timeout(60)


class Evil:
    """Unpickling one of these writes a file."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


# Weights.
def zipped(content: object) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def archive(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", "3\n")
    return stream.getvalue()


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.pt", "w.tar"])
@pytest.mark.parametrize(
    "content",
    [
        lambda: zipped(Evil()),
        lambda: zipped({"weight": Evil()}),
        lambda: archive(pickle.dumps(Evil(), 2)),
        *(lambda protocol=protocol: pickle.dumps({"weight": Evil()}, protocol) for protocol in range(6)),
    ],
)
def test_weights_with_code_in_them_are_refused(name, content):
    from deeptune.backbones.weights import read_state

    Path(name).write_bytes(content())
    with pytest.raises(WeightsError, match="refused: the file holds Python objects"):
        read_state(Path(name))


def safetensors(header: object, data: bytes = bytes(8), *, claim: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claim is None else claim) + text + data


def tensor(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


@pytest.mark.parametrize(
    "content",
    [
        safetensors({}, claim=2**31),
        safetensors({}, claim=2**64 - 1),
        safetensors(tensor(data_offsets=[0, 80])),
        safetensors(tensor(data_offsets=[-8, 8])),
        safetensors(tensor(data_offsets=[8, 0])),
        safetensors({**tensor(), "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12)),
        safetensors(tensor(dtype="X99")),
        safetensors(tensor(shape=[2**62, 2**62])),
        safetensors(b"[" * 100_000),
        b"",
    ],
)
def test_a_safetensors_header_that_lies_is_refused(content):
    from deeptune.backbones.weights import read_state

    Path("w.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_state(Path("w.safetensors"))


def test_a_safetensors_header_of_two_gigabytes_is_not_read():
    from deeptune.backbones.weights import read_state

    with open("w.safetensors", "wb") as file:
        file.write(struct.pack("<Q", 2**31) + b"{")
        file.truncate(2**31 + 100)
    with pytest.raises(WeightsError, match="header too large"):
        read_state(Path("w.safetensors"))


@pytest.mark.parametrize(
    "index",
    ['{"weight_map": {"a": ""}}', '{"weight_map": {"a": "/"}}', '{"weight_map": {"a": ".."}}',
     '{"weight_map": {"a": 3}}', '{"weight_map": {}}',
     "[" * 100_000, '{"weight_map": {"a": "sub"}}', '{"weight_map": {"a": "../../outside.pth"}}'],
)  # fmt: skip
def test_an_index_of_weights_leads_nowhere_else(index):
    from deeptune.backbones.weights import read_state

    Path("w/sub").mkdir(parents=True)
    (Path("w/sub") / "model.safetensors.index.json").write_text('{"weight_map": {"a": ".."}}')
    (Path("w") / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError):
        read_state(Path("w"))


@pytest.mark.parametrize("name", ["~nobody-of-this-name/w.pth", "x" * 5000 + ".pth", "a\0b.pth", "pipe.pth"])
def test_weights_that_are_no_file(name):
    from deeptune.backbones.weights import read_state

    os.mkfifo("pipe.pth")
    with pytest.raises(WeightsError, match=r"cannot be opened|no file or folder|not a regular file"):
        read_state(Path(name))


# Backbones of the Hugging Face kind, as folders.
@pytest.fixture
def hostile_bert(tiny_bert):
    """`hostile_bert(**config)` loads a copy of the tiny backbone whose configuration says so."""
    from deeptune.backbones import load_backbone
    from deeptune.spec.run_spec import BackboneSpec

    shutil.copytree(tiny_bert, "bert")
    folder = Path("bert")
    (folder / "evil.py").write_text('open("pwned", "w")\n\nclass C: ...\n')

    def load(file: str = "config.json", weights: str = "pretrained", **changes: object):
        if changes:
            (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **changes}))
        return load_backbone(BackboneSpec(name="hf:bert", weights=weights), seed=1)

    return load


def test_a_folder_with_a_pickle_is_refused(hostile_bert):
    Path("bert/model.safetensors").unlink()
    Path("bert/pytorch_model.bin").write_bytes(zipped({"weight": Evil()}))
    with pytest.raises(WeightsError, match="refused: the file holds Python objects"):
        hostile_bert()


@pytest.mark.parametrize("kind", ["bert", "evil"])
def test_code_that_a_configuration_names_is_not_run(hostile_bert, kind):
    """Left to itself the library asks on the terminal, and runs the code when somebody types y."""
    names = {"AutoConfig": "evil.C", "AutoModel": "evil.C"}
    if kind == "bert":
        assert hostile_bert(auto_map=names, trust_remote_code=True).width == 32
    else:
        with pytest.raises(WeightsError, match="custom code"):
            hostile_bert(model_type="evil", auto_map=names, trust_remote_code=True)


def test_code_that_a_tokenizer_names_is_not_run(hostile_bert):
    names = {"AutoTokenizer": ["evil.C", "evil.C"]}
    hostile_bert("tokenizer_config.json", tokenizer_class="EvilTokenizer", auto_map=names, trust_remote_code=True)


def test_an_attention_that_would_be_fetched_is_not(hostile_bert):
    """`owner/kernel` names compiled code of the hub."""
    backbone = hostile_bert(_attn_implementation="evil/kernel:attention", attn_implementation="evil/kernel:attention")
    assert backbone.net.config._attn_implementation in ("sdpa", "eager")


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 10**12}, {"hidden_size": -4}, {"hidden_size": "x"}, {"num_hidden_layers": 10**9},
        {"vocab_size": 10**13}, {"vocab_size": 0}, {"num_attention_heads": 0}, {"hidden_act": "os.system"},
        {"dtype": "os.system"}, {"pad_token_id": 10**9}, {"is_encoder_decoder": True}, {"id2label": 3},
        {"model_type": "../../x"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_a_configuration_that_nothing_can_be_built_from(hostile_bert, changes, weights):
    with pytest.raises(WeightsError, match=r"config\.json|cannot be built"):
        hostile_bert(weights=weights, **changes)


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", "["), ("config.json", "[" * 100_000), ("tokenizer_config.json", "[]"), ("tokenizer.json", "{}"),
     ("tokenizer.json", "[" * 100_000), ("tokenizer_config.json", '{"model_max_length": "x"}')],
)  # fmt: skip
def test_files_of_a_backbone_that_are_no_json(hostile_bert, file, content):
    (Path("bert") / file).write_text(content)
    with pytest.raises(WeightsError):
        hostile_bert()


# Specs.
def refused(text: str | bytes, *parts: str) -> str:
    Path("s.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as caught:
        load_spec(Path("s.toml"))
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 10_000
    return str(caught.value)


@pytest.mark.parametrize("name", ["../../x", "/x", "..", "a/b", "a\\u0000b", "a\\n", "x" * 100_000, "-x", "\\u202e"])
def test_the_name_of_a_run_is_a_name(name):
    refused(f'name = "{name}"\n{VALID}', "line 1: name: expected text matching")


def test_splits_to_embed_are_names():
    refused(f'{VALID}[embed]\nsplits = ["../x"]', "embed.splits: expected a list of")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x = " + "[" * 10_000 + "]" * 10_000, "nested too deep"),
        ("x = " + "{a=" * 10_000 + "1" + "}" * 10_000, "nested too deep"),
        (".".join(["a"] * 100_000) + " = 1", "more than 16 parts"),
        ("[" + " . ".join(['"a"'] * 100_000) + "]", "more than 16 parts"),
        ("x = " + "1" * 5_000, "more than 1,000 digits"),
        ("x = 0x" + "f" * 5_000, "more than 1,000 digits"),
        ('"" = 1', '"": unknown key'),
    ],
)
def test_toml_that_would_take_for_ever(text, part):
    refused(f"{text}\n{VALID}", part)


def test_strings_and_comments_may_look_like_what_is_refused():
    text = f'# {"a." * 50}\n{VALID}weights = "{"a." * 50}{"1" * 2000}"\n'
    Path("s.toml").write_text("\ufeff" + text, encoding="utf-8")
    assert load_spec(Path("s.toml")).backbone.weights.startswith("a.a.")


@pytest.mark.parametrize(("key", "value"), [(k, v) for k in ("epochs", "learning_rate", "seed", "workers") for v in
                                            ("1" + "0" * 400, "nan", "inf", "-inf", "1e999")])  # fmt: skip
def test_numbers_that_are_none(key, value):
    if key == "learning_rate" and value.startswith("10"):
        value = "-1"
    refused(f"{VALID}[train]\n{key} = {value}", f"line 6: train.{key}: ")


def test_an_enormous_number_of_epochs():
    refused(f"{VALID}[train]\nepochs = {10**30}", "train.epochs: is too large")


def test_more_worker_processes_than_a_machine_has_room_for():
    refused(f"{VALID}[train]\nworkers = 100000", "train.workers: is too large: expected at most 1,024")


def test_a_spec_of_fifty_megabytes_is_not_read():
    Path("s.toml").write_text(VALID + "# x\n" * 12_500_000)
    with pytest.raises(SpecError, match="larger than 4,000,000 bytes"):
        load_spec(Path("s.toml"))


def test_a_hundred_thousand_wrong_keys_are_a_short_message():
    message = refused(VALID + "\n".join(f"k{number} = 1" for number in range(100_000)), "more than 50 problems")
    assert len(message.splitlines()) < 60


def test_a_spec_that_is_a_pipe_or_a_device():
    os.mkfifo("pipe")
    for name in ("pipe", "/dev/zero"):
        with pytest.raises(SpecError, match="not a regular file"):
            find_spec_file(name)
        with pytest.raises(SpecError, match="not a regular file"):
            load_spec(Path(name))


def test_an_override_ends_with_its_value():
    with pytest.raises(SpecError, match=r"train\.epochs: expected an integer"):
        load_spec(None, ["train.epochs=1\n[head]\nlayers=2", 'data.path="x"', 'backbone.name="resnet18"'])


# Runs.
@pytest.mark.parametrize(
    "reference", ["", ".", "..", "../..", "/", "a\0b", "x" * 5000, "*", "~", "\udc80", "runs/a-1/.."]
)
def test_a_run_is_looked_for_nowhere_else(reference):
    Path("runs/a-1").mkdir(parents=True)
    (Path("runs/a-1") / "spec.toml").write_text("")
    with pytest.raises(SpecError, match="there is no run"):
        find_run(reference)


def test_an_empty_name_does_not_find_the_run_that_one_stands_in(monkeypatch):
    """`deeptune predict "$RUN"` with RUN unset."""
    Path("spec.toml").write_text("")
    with pytest.raises(SpecError, match="there is no run ''"):
        find_run("")
    Path("below").mkdir()
    monkeypatch.chdir("below")
    assert find_run("..").id == "here"


def test_a_folder_of_runs_whose_name_is_too_long():
    with pytest.raises(SpecError, match="cannot look for runs"):
        find_run("x", Path("x" * 5000))
