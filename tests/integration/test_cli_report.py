"""`deeptune report`: the path, and the server that a browser elsewhere reaches through ssh."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeptune.runs import RunDirectory, write_json, write_text

PAGE = "<!doctype html><title>the report</title>ü"


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """A run that is done, with a file beside its report that nobody else is to see."""
    run = RunDirectory(tmp_path / "runs" / "scans-20260921-101500-abc123")
    run.path.mkdir(parents=True)
    write_text(run.spec, "")
    write_text(run.report, PAGE)
    write_text(run.path / "secret.txt", "secret")
    write_json(run.result, {"state": "done"})
    return run


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deeptune", "report", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "SSH_CONNECTION": "10.0.0.9 50000 10.0.0.7 22"},
    )  # fmt: skip


@pytest.fixture
def server(run, tmp_path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """The process, its port, and what it printed."""
    process = started(tmp_path, "latest", "--serve")
    assert process.stdout is not None
    printed = process.stdout.readline() + process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", printed)
    assert found, printed
    try:
        yield process, int(found[1]), printed
    finally:
        process.kill()
        process.wait()


def ask(port: int, path: str, method: str = "GET", host: str | None = None) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), str(answer.getheader("Content-Type"))


def test_the_path_is_printed(run, tmp_path):
    process = started(tmp_path, "latest")
    printed, _ = process.communicate()
    assert (process.returncode, printed) == (0, f"runs/{run.id}/report.html\n")


def test_the_report_is_served_and_the_ssh_line_is_printed(server):
    _, port, printed = server
    assert re.search(rf"ssh -L {port}:127\.0\.0\.1:{port} \S+@10\.0\.0\.7\n", printed)
    assert ask(port, "/") == (200, PAGE, "text/html; charset=utf-8")
    assert ask(port, "/report.html?x=1")[:2] == (200, PAGE)
    assert ask(port, "/", "HEAD")[:2] == (200, "")


@pytest.mark.parametrize(
    "path", ["/secret.txt", "/..", "/../../secret.txt", "/%2e%2e/secret.txt", "/.", "//etc/passwd"]
)
def test_nothing_else_is_served(server, path):
    status, text, _ = ask(server[1], path)
    assert status == 404
    assert "secret" not in text.replace(path, "")


def test_what_is_not_a_question_for_a_page_is_refused(server):
    assert ask(server[1], "/", "POST")[0] == 501


def test_a_page_of_another_name_that_leads_here_gets_nothing(server):
    assert ask(server[1], "/", host="evil.example")[0] == 403
    assert ask(server[1], "/", host="localhost:9999")[0] == 200


def test_it_listens_on_the_loopback_address_alone(server):
    with socket.socket() as other:
        other.settimeout(2)
        assert other.connect_ex(("127.0.0.2", server[1])) != 0


def test_ctrl_c_ends_it_with_0(server):
    process, port, _ = server
    assert ask(port, "/")[0] == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_a_port_that_is_taken_is_told(server, run, tmp_path):
    process = started(tmp_path, "latest", "--serve", "--port", str(server[1]))
    _, said = process.communicate()
    assert process.returncode == 6
    assert f"cannot listen on port {server[1]}" in said


def test_a_run_without_a_report_is_told(run, tmp_path):
    run.report.unlink()
    process = started(tmp_path, "latest", "--serve")
    _, said = process.communicate()
    assert process.returncode == 6
    assert "has no report" in said
