"""Downloads over a line that is cut, slow, redirected, or sends another file."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from deeptune.errors import WeightsError
from deeptune.fetching import download as module
from deeptune.fetching.download import download, hash_in_name

CONTENT = bytes(range(256)) * 4000  # 1 MB
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class Server:
    """Serves CONTENT at `/NAME`, with ranges. `cut` limits the bytes of an answer, `asked` keeps each Range."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.cut: list[int] = []
        self.ranges = True
        self.status = 200
        self.pause = 0.0
        self.url = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{http.server_port}/{NAME}"
        try:
            yield self
        finally:
            http.shutdown()
            http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/moved"):
            request.send_response(302)
            request.send_header("Location", f"/{NAME}")
            request.end_headers()
            return
        asked = request.headers.get("Range")
        self.asked.append(asked)
        if self.status != 200:
            request.send_error(self.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start > len(CONTENT):
            request.send_error(416)
            return
        request.send_response(206 if asked and self.ranges else 200)
        request.send_header("Content-Length", str(len(CONTENT) - start))
        request.end_headers()
        end = min(len(CONTENT), start + self.cut.pop(0)) if self.cut else len(CONTENT)
        step = 1 << 18
        for place in range(start, end, step):
            request.wfile.write(CONTENT[place : min(place + step, end)])
            time.sleep(self.pause)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(time, "sleep", _short(time.sleep))
    with Server().running() as server:
        yield server


def _short(sleep: Callable[[float], None]) -> Callable[[float], None]:
    return lambda seconds: sleep(min(seconds, 0.01))


def test_a_file_is_fetched_once(server, tmp_path) -> None:
    path = download(server.url, tmp_path / "hub" / NAME)
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == [NAME]
    download(server.url, path)
    assert server.asked == [None]


def test_a_redirect_is_followed(server, tmp_path) -> None:
    moved = server.url.replace(f"/{NAME}", f"/moved/{NAME}")
    assert download(moved, tmp_path / NAME).read_bytes() == CONTENT


def test_a_cut_connection_is_taken_up_where_it_ended(server, tmp_path) -> None:
    server.cut = [300_000, 300_000]
    assert download(server.url, tmp_path / NAME).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_a_line_that_stays_cut_is_one_error_and_the_next_attempt_resumes(server, tmp_path) -> None:
    server.cut = [300_000, *[0] * 20]
    with pytest.raises(WeightsError, match=r"cut after 300 kB of 1\.0 MB; they are kept") as caught:
        download(server.url, tmp_path / NAME)
    assert server.url in caught.value.message
    assert not (tmp_path / NAME).exists()
    server.cut, before = [], len(server.asked)
    download(server.url, tmp_path / NAME)
    assert server.asked[before:] == ["bytes=300000-"]
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_whole_file_again(server, tmp_path) -> None:
    server.cut, server.ranges = [300_000], False
    assert download(server.url, tmp_path / NAME).read_bytes() == CONTENT


def test_a_part_of_another_file_is_found_out_by_the_hash(server, tmp_path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 1000)
    with pytest.raises(WeightsError, match="sent another file: its SHA-256 begins with"):
        download(server.url, tmp_path / NAME)
    assert not list(tmp_path.glob("*.part"))
    assert download(server.url, tmp_path / NAME).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_left_out(server, tmp_path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT + b"xx")
    assert download(server.url, tmp_path / NAME).read_bytes() == CONTENT


def test_without_a_hash_in_the_name_no_part_is_trusted(server, tmp_path) -> None:
    (tmp_path / "net.pth.part").write_bytes(b"x" * 1000)
    assert download(server.url, tmp_path / "net.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "words"), [(401, "HTTP 401"), (404, "HTTP 404"), (503, "HTTP 503")])
def test_a_refusal_is_one_error_with_its_reason(server, tmp_path, status, words) -> None:
    server.status = status
    with pytest.raises(WeightsError, match=words):
        download(server.url, tmp_path / NAME)
    assert len(server.asked) == 1


def test_a_slow_line_is_waited_for(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    server.pause = 0.01
    assert download(server.url, tmp_path / NAME).read_bytes() == CONTENT


def test_too_little_room_is_known_before_anything_is_written(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(WeightsError, match=r"1\.0 MB are needed, and 1\.0 kB are free"):
        download(server.url, tmp_path / NAME)


def test_several_processes_fetch_a_file_once(server, tmp_path) -> None:
    server.pause = 0.01
    threads = [threading.Thread(target=download, args=(server.url, tmp_path / NAME)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert server.asked == [None]


@pytest.mark.parametrize(
    ("name", "digest"),
    [("resnet18-f37072fd.pth", "f37072fd"), ("a-b.pth", None), ("model.safetensors", None)],
)
def test_the_hash_is_read_from_the_name(name, digest) -> None:
    assert hash_in_name(name) == digest
