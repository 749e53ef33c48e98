"""Data, images and names made to do harm: refused with a message or shown inert, in bounded memory and time."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import subprocess
import sys
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
from deeptune.data.sources.parquet import open_source
from deeptune.data.splits.stratify import assign_splits
from deeptune.errors import DataError
from deeptune.spec.run_spec import SplitSpec
from deeptune.tasks.regression import RegressionTask

MEMORY = 3 * 2**29  # bytes of address space for what must not need more

pytestmark = pytest.mark.timeout(60)


# Data.
@pytest.mark.parametrize(
    "path", ["sample:../../etc/passwd", "sample:/etc/passwd", "sample:", "a\0b", "x" * 5000, "~nobody-of-this-name/x",
             "pipe", "/dev/zero", "/dev/null"]
)  # fmt: skip
def test_data_that_is_no_file(path):
    os.mkfifo("pipe")
    with pytest.raises(DataError):
        open_source(path)


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
        source = open_source("bomb.parquet")
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
    assert open_source("m.parquet").label_names() is None


def test_text_that_is_no_text_is_a_damaged_column():
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"text": broken, "labels": ["a", "b"]}), "t.parquet")
    with pytest.raises(DataError, match=r"column 'text' of .* cannot be read: .*UTF8") as refused:
        open_source("t.parquet").column("text")
    assert "write it again as UTF-8" in str(refused.value.hint)


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
