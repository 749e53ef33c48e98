"""Made-up specs and damaged Parquet files: each works or is refused with a clear message.

No traceback, no hang, no file written. The same 2,000 cases each time.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deeptune.data.splits.planner import plan_data
from deeptune.errors import DeepTuneError
from deeptune.spec import RunSpec, dump_spec, load_spec
from deeptune.spec.defaults import run_name
from deeptune.spec.presets import preset_files
from deeptune.spec.toml import validate

PATIENCE = 20  # seconds for a case
MEMORY = 3 * 2**30  # bytes of address space for a process that reads damaged files
NOISE = re.compile(r"Traceback|<class '|object at 0x|datetime\.|errors\.pydantic|RecursionError|NoneType")
CASES = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a case that fails is small enough as it is
    suppress_health_check=list(HealthCheck),
)


def check_message(error: DeepTuneError) -> None:
    assert error.message.strip()
    assert not NOISE.search(str(error)), str(error)
    assert len(str(error)) < 20_000


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    found = {path: path.stat() for path in folder.rglob("*")}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


@contextmanager
def within(seconds: int) -> Iterator[None]:
    class Hang(BaseException):
        """No product code catches this."""

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Specs.
def dotted_keys(model: Any = RunSpec, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if hasattr(field.annotation, "model_fields"):
            yield from dotted_keys(field.annotation, f"{prefix}{name}.")


KEYS = sorted(dotted_keys())
RIGHT = [
    "1", "2", "0.1", "true", "[]", "{}", '"auto"', '"cpu"', '"lora"', '"full"', '"regression"', '"val/loss"',
    '"balanced"', '"resnet18"', '"sample:openclipart7"', '["train", "test"]', '{train = 0.5, val = 0.25, test = 0.25}',
    '"30 s"', '"none"',
]  # fmt: skip
WRONG = [
    "-1", "0", "1e400", "nan", "-inf", "1" + "0" * 30, "0x" + "f" * 4000, "1" * 5000, "1979-05-27T07:32:00Z",
    "07:32:00", '""', '"../../x"', '"a\\u0000b"', '"\\u202e\\u001b[31m"', "'''\n'''", "[" * 2000, "[[[[1]]]]",
    "{a.b.c = 1}", "[1, 'a']",
    '"' + "x" * 100_000 + '"', "'", "tru", "", "\x00", "{" * 500, '["../x"]', "~nobody", "1.5", "1_0", "0o17", "[nan]",
]  # fmt: skip
values = st.sampled_from(RIGHT) | st.sampled_from(WRONG) | st.text(max_size=20) | st.integers().map(str)
keys = st.sampled_from(KEYS) | st.text(max_size=12) | st.sampled_from(["a." * 40 + "a", '""', '"a b"', "data.data"])
lines = st.tuples(keys, values).map(" = ".join) | st.sampled_from(KEYS).map("[{}]".format) | st.text(max_size=30)
PRESETS = [file.read_bytes() for file in preset_files().values()]


@st.composite
def changed(draw: st.DrawFn, content: bytes, *, end: int = 0) -> bytes:
    """`content` with bytes turned, cut, doubled or moved; `end` is how much of its end is worth more of them."""
    changes = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        size = len(changes)
        low = max(0, size - end) if end and draw(st.booleans()) else 0
        at, there = (draw(st.integers(low, max(low, size - 1))) for _ in range(2))
        length = draw(st.integers(1, 16))
        match draw(st.sampled_from(["turn"] * 6 + ["set"] * 4 + ["cut", "remove", "insert", "splice"])):
            case "turn" if size:
                changes[min(at, size - 1)] ^= 1 << draw(st.integers(0, 7))
            case "set":
                length = draw(st.sampled_from([1, 1, 1, length]))
                changes[at : at + length] = draw(st.sampled_from([b"\x00", b"\xff", b"\x7f", b"\x80"])) * length
            case "cut":
                del changes[at:]
            case "remove":
                del changes[at : at + length]
            case "insert":
                changes[at:at] = draw(st.binary(min_size=1, max_size=length))
            case "splice":
                changes[at : at + length] = changes[there : there + length]
    return bytes(changes)


specs = st.lists(lines, max_size=12).map("\n".join).map(lambda text: text.encode("utf-8", "surrogatepass"))
specs |= st.lists(st.tuples(st.sampled_from(KEYS), values).map(" = ".join), max_size=6).map(
    lambda rows: "\n".join([*rows, 'data.path = "x"', 'backbone.name = "resnet18"']).encode("utf-8", "surrogatepass")
)
specs |= st.sampled_from(PRESETS) | st.sampled_from(PRESETS).flatmap(changed) | st.sampled_from(PRESETS)
settings_given = st.just([]) | st.lists(st.tuples(keys, values).map("=".join) | st.text(max_size=20), max_size=3)


@pytest.fixture
def quiet_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in that nothing may be written into, and a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "case").write_bytes(b"")
    before = tree(tmp_path)
    yield tmp_path
    (tmp_path / "case").unlink()
    after = tree(tmp_path)
    assert set(after) == set(before) - {str(tmp_path / "case")}


def test_any_spec_is_read_or_refused(quiet_folder):
    works = 0

    @CASES
    @given(specs, settings_given)
    def case(content: bytes, overrides: list[str]) -> None:
        nonlocal works
        file = quiet_folder / "case"
        file.write_bytes(content)
        with within(PATIENCE):
            try:
                spec = load_spec(file, overrides)
            except DeepTuneError as error:
                check_message(error)
                return
            works += 1
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", run_name(spec))
            file.write_text(dump_spec(spec), encoding="utf-8")
            assert load_spec(file) == spec

    case()
    assert works > 50, "hardly anything is valid: these cases test the parser alone"


# Parquet.
WORDS = ["good", "bad", "fine", "", " ", "\u202e", "x" * 300]
PICTURES = [b"", b"no picture"]


def picture(shade: int) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(stream, ["PNG", "JPEG", "GIF", "TIFF", "WEBP"][shade % 5])
    return stream.getvalue()


SAMPLES = {
    "text": lambda n: pa.array([WORDS[i % 3] + str(i % 9) for i in range(n)]),
    "dictionary": lambda n: pa.array([WORDS[i % 3] for i in range(n)]).dictionary_encode(),
    "large": lambda n: pa.array([WORDS[i % 7] for i in range(n)], pa.large_string()),
    "view": lambda n: pa.array([WORDS[i % 3] for i in range(n)], pa.string_view()),
    "images": lambda n: pa.array([picture(i % 250) for i in range(n)]),
    "struct": lambda n: pa.array([{"bytes": picture(i % 250), "path": None} for i in range(n)]),
    "nulls": lambda n: pa.array([None, *["x"] * (n - 1)]),
}
LABELS = {
    "words": lambda n: pa.array([WORDS[i % 3] for i in range(n)]),
    "dictionary": lambda n: pa.array([WORDS[i % 2] for i in range(n)]).dictionary_encode(),
    "integers": lambda n: pa.array([i % 3 for i in range(n)], pa.int16()),
    "unsigned": lambda n: pa.array([2**63 + i % 3 for i in range(n)], pa.uint64()),
    "booleans": lambda n: pa.array([i % 2 == 0 for i in range(n)]),
    "floats": lambda n: pa.array(np.linspace(-1, 1, n), pa.float32()),
    "decimals": lambda n: pa.array(range(n), pa.decimal128(20, 2)),
    "lists": lambda n: pa.array([[1, 2]] * n),
    "dates": lambda n: pa.array(range(n), pa.date32()),
}


@st.composite
def parquet_files(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """A small file of some schema, damaged nine times in ten, and the spec that reads it."""
    n = draw(st.integers(1, 60) | st.just(60))
    sample, label = draw(st.sampled_from(sorted(SAMPLES))), draw(st.sampled_from(sorted(LABELS)))
    input = "images" if sample in ("images", "struct") else "text"
    columns = {
        input: SAMPLES[sample](n),
        "labels": LABELS[label](n),
        "group": pa.array([f"g{i // 2}" for i in range(n)]),
    }
    table = pa.table(columns)
    if draw(st.booleans()):
        table = table.replace_schema_metadata(
            {"label_names": draw(st.sampled_from(['["a", "b", "c"]', "[1", "[" * 9999]))}
        )
    stream = io.BytesIO()
    pq.write_table(
        table,
        stream,
        compression=draw(st.sampled_from(["none", "snappy", "zstd", "gzip", "lz4", "brotli"])),
        use_dictionary=draw(st.booleans()),
        data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
        row_group_size=draw(st.sampled_from([7, 1000])),
        store_schema=draw(st.booleans()),
        write_page_index=draw(st.booleans()),
    )
    content = stream.getvalue()
    if draw(st.integers(0, 9)):
        footer = int.from_bytes(content[-8:-4], "little") + 8
        content = draw(changed(content, end=footer))
    spec: dict[str, Any] = {"data": {"path": "case"}, "backbone": {"name": "resnet18"}}
    fitting = "regression" if label in ("floats", "decimals") else "classification"
    spec["task"] = draw(st.sampled_from([fitting, fitting, fitting, "classification", "regression"]))
    spec["data"]["on_bad_sample"] = draw(st.sampled_from(["error", "skip", "blank"]))
    spec["data"] |= draw(st.sampled_from([{}, {"group": "group"}, {"input": input}, {"label": "group"}]))
    return content, spec


def read_for_ever() -> None:
    """What a run does before it trains, for each spec that comes in a line; one line of answer each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        answer = {"kind": "works", "message": ""}
        try:
            plan = plan_data(validate(json.loads(line)))
            plan.splits_table()
            assert plan.fingerprint.startswith("sha256:")
            for data in plan.splits.values():
                data.source.take(plan.input, data.rows).to_pylist()
        except DeepTuneError as error:
            answer = {"kind": "refused", "message": str(error)}
        except BaseException as error:
            import traceback

            answer = {"kind": type(error).__name__, "message": "".join(traceback.format_exception(error)[-6:])}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Reader:
    """A process that reads damaged files, one after another, so that a crash of its libraries is one finding."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def read(self, spec: dict[str, Any]) -> dict[str, str]:
        if self.process is None:
            variables = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
            self.process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
            )
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(spec) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            self.close()
            return {"kind": "hang", "message": f"no answer within {PATIENCE} s"}
        if line := self.process.stdout.readline():
            return json.loads(line)
        code = self.process.wait()
        self.process = None
        return {"kind": "crash", "message": f"exit code {code}"}

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def test_any_parquet_file_is_read_or_refused(quiet_folder):
    reader = Reader()
    kinds = {"works": 0, "refused": 0}

    @CASES
    @given(parquet_files())
    def case(drawn: tuple[bytes, dict[str, Any]]) -> None:
        content, spec = drawn
        (quiet_folder / "case").write_bytes(content)
        answer = reader.read(spec)
        assert answer["kind"] in kinds, answer["message"]
        kinds[answer["kind"]] += 1
        if answer["kind"] == "refused":
            check_message(DeepTuneError(answer["message"]))

    try:
        case()
    finally:
        reader.close()
    assert kinds["works"] > 50, "hardly any file is whole"
    assert kinds["refused"] > 200, "hardly any file is damaged"


if __name__ == "__main__":
    read_for_ever()
