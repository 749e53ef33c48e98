"""What tests of several rooms share: the command line, tiny data and a tiny text backbone."""

from __future__ import annotations

import fcntl
import gc
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from answers import Answer
from devices import SIMULATED, simulate_gpu
from pictures import png
from small_bert import save_small_bert

if SIMULATED:
    simulate_gpu()

# No command may reach a network.
QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the cache of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("DEEPTUNE_CACHE_LIMIT", raising=False)
        yield


@pytest.fixture(scope="module")
def no_reports() -> Iterator[None]:
    """Runs of this process write no `report.html`, which takes a third of a tiny run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deeptune.engine.run.write_report", lambda path: None)
        yield


def pytest_configure() -> None:
    # Ignored signals are inherited: under nohup, or in a shell's background, no test could send these.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    # Modules, tests and libraries stay to the end. Looking for garbage among them took each run of a test a second.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The variables of a command's process: no colours, no terminal size of the caller's, no network."""
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "FORCE_COLOR", "TERM")}
    return {**kept, **QUIET, "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture
def cli(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Answer]:
    """`cli("run", "quickstart", ...)` runs `python -m deeptune` in a process of its own, in `tmp_path`."""

    def call(*arguments: str, timeout: float = 240, **options: Any) -> Answer:
        command = [sys.executable, "-m", "deeptune", *arguments]
        options = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=timeout, check=False, **options)
        return Answer(done.returncode, *((text or b"").decode("utf-8") for text in (done.stdout, done.stderr)))

    return call


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """`command("run", ...)` is the same command line in this process, where PyTorch is loaded only once."""
    from deeptune.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("COLUMNS", "LINES", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["deeptune", *arguments])
        capfd.readouterr()
        code = app.run_command()
        return Answer(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer BERT with its tokenizer, as a folder of the Hugging Face hub."""
    from unit.hub import save_tiny_bert

    return save_tiny_bert(tmp_path_factory.mktemp("hub") / "bert")


@pytest.fixture
def image_file(tmp_path: Path) -> Callable[..., Path]:
    """`image_file(images=..., labels=...)` writes 24 tiny pictures of 2 colours; columns can be replaced."""

    def write(name: str = "images.parquet", **columns: Any) -> Path:
        colours = [(200, 30, 30), (30, 30, 200)]
        table = {
            "images": [png(colour=colours[row % 2]) for row in range(24)],
            "labels": [("red", "blue")[row % 2] for row in range(24)],
        }
        pq.write_table(pa.table({**table, **columns}), tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def text_file(tmp_path: Path) -> Callable[..., Path]:
    """`text_file(text=..., labels=...)` writes a Parquet of 24 short texts in 2 classes; columns can be replaced."""

    def write(name: str = "text.parquet", **columns: Any) -> Path:
        table = {
            "text": [("a good film", "bad acting")[row % 2] + " the plot" * (row % 3) for row in range(24)],
            "labels": [("good", "bad")[row % 2] for row in range(24)],
        }
        pq.write_table(pa.table({**table, **columns}), tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def terminal(tmp_path: Path, environment: dict[str, str]) -> Callable[..., tuple[int, str]]:
    """`terminal("run", ..., columns=80, rows=24)` runs the command line on a pseudo-terminal: (code, all it drew)."""

    def call(*arguments: str, columns: int = 80, rows: int = 24, **variables: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        colours = {key: value for key, value in environment.items() if key != "NO_COLOR"}
        child = subprocess.Popen(
            [sys.executable, "-m", "deeptune", *arguments],
            cwd=tmp_path,
            env={**colours, "TERM": "xterm-256color", **variables},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        drawn = b""
        with suppress(OSError):  # Linux says EIO when the other end has closed
            while block := os.read(ours, 65536):
                drawn += block
        os.close(ours)
        return child.wait(timeout=60), drawn.decode("utf-8")

    return call


@pytest.fixture(scope="session")
def review_bert(tmp_path_factory):
    """Two layers of BERT, random weights, with a word-piece tokenizer trained on the sample's own texts."""
    from deeptune.data.sources.parquet import open_source

    texts = open_source("sample:movie_snippets").column("text").slice(0, 400).to_pylist()
    return save_small_bert(tmp_path_factory.mktemp("models") / "tiny-bert", texts, vocabulary=600, limit=64)
