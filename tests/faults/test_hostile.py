"""Input that somebody made to do harm: refused with one clear message or shown inert, in bounded memory and time.

Nothing in it is run, and nothing is written outside the run directory.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png
from PIL import Image

from deeptune.data.images.decode import decode_image
from deeptune.data.sources import column_stream
from deeptune.data.sources.source import Source
from deeptune.data.splits.stratify import assign_splits
from deeptune.errors import DataError, SpecError, WeightsError
from deeptune.runs import find_run
from deeptune.spec import load_spec
from deeptune.spec.presets import find_spec_file
from deeptune.spec.run_spec import SplitSpec
from deeptune.tasks.regression import RegressionTask

VALID = '[data]\npath = "sample:openclipart7"\n[backbone]\nname = "resnet18"\n'
MEMORY = 3 * 2**29  # bytes of address space for what must not need more

pytestmark = pytest.mark.timeout(60)


class Evil:
    """Unpickling one of these writes a file."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.fixture(autouse=True)
def _unharmed(tmp_path, monkeypatch):
    """Every test works in a folder of its own, and nothing in it may be run."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a person was asked whether to run code"))
    yield
    assert not list(tmp_path.rglob("pwned"))
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in (".parquet", "")] == []


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
        with pytest.raises(SpecError, match="no regular file"):
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


# Data.
@pytest.mark.parametrize(
    "path", ["sample:../../etc/passwd", "sample:/etc/passwd", "sample:", "a\0b", "x" * 5000, "~nobody-of-this-name/x",
             "pipe", "/dev/zero", "/dev/null"]
)  # fmt: skip
def test_data_that_is_no_file(path):
    os.mkfifo("pipe")
    with pytest.raises(DataError):
        Source.open(path)


def in_bounds(program: str, *arguments: str) -> str:
    """Run a program that may use so much address space and no more; it prints what it has to say."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=50, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


PLAN = """
import sys
from deeptune.data.splits.planner import plan_data
from deeptune.errors import DataError
from deeptune.spec.toml import validate
try:
    plan_data(validate({"data": {"path": sys.argv[1]}, "backbone": {"name": "resnet18"}}))
    print("works")
except DataError as error:
    print(error)
"""


def long_values(file: str, *, stored: bool = False) -> None:
    """4 GB of text in 2 kB: one value of a megabyte and 4,000 references to it."""
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), pa.array(["x" * 2**20]))
    table = pa.table({"text": one, "labels": ["a", "b"] * 500})
    with pq.ParquetWriter(file, table.schema, compression="zstd", store_schema=stored) as writer:
        for _ in range(4):
            writer.write_table(table)
    assert os.path.getsize(file) < 10_000


def zeros(file: str) -> None:
    """1.6 GB of text that compress to nothing, in 6 pages."""
    table = pa.table({"text": ["x" * 2**28], "labels": ["a"]})
    with pq.ParquetWriter(file, table.schema, compression="zstd", use_dictionary=False) as writer:
        for label in ["a", "b"] * 3:
            writer.write_table(table.set_column(1, "labels", pa.array([label])))


@pytest.mark.parametrize(
    ("write", "said"),
    [(long_values, "works"), (lambda file: long_values(file, stored=True), "works"), (zeros, "in memory")],
    ids=["plain", "dictionary", "zeros"],
)
def test_a_file_that_grows_a_millionfold(write, said):
    """It passes in pieces, unless one value alone takes too much."""
    write("bomb.parquet")
    assert said in in_bounds(PLAN, "bomb.parquet")


def test_a_column_is_read_for_as_long_as_there_is_memory(monkeypatch):
    """Where nothing but the system's killer would stop it."""
    for stored in (False, True):
        long_values("bomb.parquet", stored=stored)
        monkeypatch.setattr("deeptune.data.sources.parquet_footer.room", lambda: 10**9)
        monkeypatch.setattr(column_stream, "room", lambda: 500_000_000)
        source = Source.open("bomb.parquet")
        with pytest.raises(DataError, match=r"column 'text' of .* does not fit in memory: .* the 0\.5 GB"):
            source.column("text")
        assert len(source.column("labels")) == 4000


def with_rows(file: str, rows: int) -> None:
    """A file whose footer claims so many rows: the number stands there as a zigzag varint."""
    pq.write_table(pa.table({"text": ["a"] * 8191, "labels": ["b"] * 8191}), file, store_schema=False)
    content = Path(file).read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    body, footer = content[: -8 - size], content[-8 - size : -8]
    honest, claim = varint(2 * 8191), varint(2 * rows)
    assert honest in footer
    footer = footer.replace(honest, claim)
    Path(file).write_bytes(body + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


@pytest.mark.parametrize("rows", [2**60, 2**35, 10_000])
def test_a_footer_that_claims_rows(rows):
    with_rows("claims.parquet", rows)
    said = in_bounds(PLAN, "claims.parquet")
    assert "claims" in said
    assert f"{rows:,} rows, which do not fit in memory" in said if rows > 10_000 else "damaged" in said


def test_a_schema_of_many_thousand_columns():
    names = [f"c{number}" for number in range(10_000)]
    table = pa.table({**{name: [1] * 4 for name in names}, "labels": ["a", "b"] * 2})
    for file in ("a.parquet", "b.parquet"):
        pq.write_table(table, file, compression="none", write_statistics=False, use_dictionary=False)
    said = in_bounds(PLAN, ".")
    assert "neither a column 'images' nor a column 'text'" in said
    assert len(said) < 2000


def test_a_schema_that_is_nested_deep():
    kind = pa.string()
    for _ in range(1000):
        kind = pa.struct([("f", kind)])
    pq.write_table(pa.table({"text": ["a", "b"], "labels": ["a", "b"], "deep": pa.nulls(2, kind)}), "deep.parquet")
    assert "too deeply nested" in in_bounds(PLAN, "deep.parquet")


@pytest.mark.parametrize("key", ["huggingface", "label_names"])
def test_metadata_that_is_nested_deep_names_no_class(key):
    table = pa.table({"text": ["a"], "labels": [1]}).replace_schema_metadata({key: "[" * 100_000})
    pq.write_table(table, "m.parquet")
    assert Source.open("m.parquet").label_names() is None


def test_text_that_is_no_text_is_a_damaged_column():
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"text": broken, "labels": ["a", "b"]}), "t.parquet")
    with pytest.raises(DataError, match=r"column 'text' of .* cannot be read: .*UTF8"):
        Source.open("t.parquet").column("text")


def test_fewer_rows_than_bins_of_a_number_in_groups():
    """Found by the fuzz test: an empty bin was taken for a class without a training row."""
    codes = assign_splits(
        np.arange(6.0), task=RegressionTask, proportions=SplitSpec(), groups=np.array([0, 0, 1, 1, 2, 2]), seed=0
    )
    assert set(codes.tolist()) == {0, 1, 2}


# Images.
def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(kind: bytes, content: bytes) -> bytes:
    whole = png()
    return whole[:33] + chunk(kind, content) + whole[33:]


BOMB = zlib.compress(bytes(500_000_000), 9)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_a_png_with_half_a_gigabyte_beside_its_pixels(kind):
    content = b"iTXt\0\1\0\0\0" + BOMB if kind == b"iTXt" else b"x\0\0" + BOMB
    Path("bomb.png").write_bytes(png_with(kind, content))
    program = """
import sys, resource
from deeptune.data.images.decode import decode_image
from deeptune.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try: decode_image(open("bomb.png", "rb").read())
except DataError: pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert int(in_bounds(program)) < 100_000  # KiB


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_a_picture_of_many_frames_is_its_first(kind):
    frames = [Image.new("RGB", (16, 16), (index % 256, index // 256, 0)) for index in range(500)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    assert decode_image(stream.getvalue()).size == (16, 16)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(pwned) (w) file closefile\n%%EOF\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
        b"%PDF-1.4\n1 0 obj\n<</Type /Catalog>>\nendobj\n%%EOF\n",
    ],
)
def test_a_program_is_no_picture(content, monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(DataError):
        decode_image(content)


# What is shown.
CLASSES = [
    "<script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "\u202eexe.gpj\x1b[2J",
    "{{ 7*7 }}\u200b[@click=x]",
]


def test_names_are_inert_in_every_command_and_in_the_report(command, tiny_bert, tmp_path):
    folder = tmp_path / "out<b>\u202e[red]"
    file = tmp_path / "da<i>\u202eta\x1b[7m.parquet"
    texts = [f"{word} film" for word in ("good", "bad", "worth", "plot") for _ in range(12)]
    columns = {"te<u>\u202ext": texts, "la\u202ebel\x1b[7m": [name for name in CLASSES for _ in range(12)]}
    pq.write_table(pa.table(columns), file)
    settings = {
        "data.input": "te<u>\u202ext", "data.label": "la\u202ebel\x1b[7m", "backbone.name": f"hf:{tiny_bert}",
        "train.epochs": 1, "train.device": "cpu",
    }  # fmt: skip
    words = ["--data", str(file), *(word for k, v in settings.items() for word in ("--set", f"{k}={json.dumps(v)}"))]
    said = [command("run", *words, "--dry-run"), command("run", *words, "--plain", "--output", str(folder))]
    (run,) = folder.iterdir()
    output = str(tmp_path / "p\u202e\x1b[7m.parquet")
    said += [
        command("evaluate", str(run), "--data", str(file)),
        command("predict", str(run), "--data", str(file), "--output", output),
        command("embed", str(run), "--data", str(file), "--output", output),
    ]
    for answer in said:
        assert answer.code == 0, answer.stderr
        shown = answer.stdout + answer.stderr
        assert not any(character in shown for character in "\x1b\u202e\u200b")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7*7 }}" in page
    for harm in ("<script>alert", "<img src=x", "<u>", "<i>", "<b>", "\u202e", "\x1b", "\u200b"):
        assert harm not in page
    wrong = command("run", "--set", 'x\u202e="\u202e\x1b[7m"', "--set", "data.path=\u202e\x1b[7m")
    assert wrong.code == 2
    assert not any(character in wrong.stderr for character in "\x1b\u202e")
