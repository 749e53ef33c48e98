"""The event log, written by one and read by anyone at any moment."""

from __future__ import annotations

import json

import pytest

from deeptune.errors import CheckpointError
from deeptune.runs import EventWriter, StatusWriter, read_events
from deeptune.runs.events import EventReader


def line(sequence: object, kind: str = "step", **content) -> bytes:
    return json.dumps({"v": 1, "seq": sequence, "t": 1.0, "kind": kind, **content}).encode() + b"\n"


def test_what_is_written_is_read(tmp_path):
    log = EventWriter(tmp_path / "events.jsonl")
    log.write("run", id="a")
    log.write("step", loss=float("nan"), rate=[1.0, float("inf")], nested={"deep": (float("-inf"), 2)})
    log.warning("two\nlines \x1b[31m é \udcff")
    log.close()
    log.close()
    first, second, third = read_events(tmp_path / "events.jsonl")
    assert (first["v"], first["seq"], first["kind"], first["id"]) == (1, 1, "run", "a")
    assert (second["loss"], second["rate"], second["nested"]) == (None, [1.0, None], {"deep": [None, 2]})
    assert third["message"] == "two\nlines \x1b[31m é \udcff"
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 3


def test_each_event_is_there_as_soon_as_it_is_written(tmp_path):
    log, reader = EventWriter(tmp_path / "events.jsonl"), EventReader(tmp_path / "events.jsonl")
    assert list(reader.poll()) == []
    for number in range(1, 4):
        log.write("step", number=number)
        assert [event["number"] for event in reader.poll()] == [number]
    assert list(reader.poll()) == []


def test_a_line_that_is_not_finished_waits(tmp_path):
    file = tmp_path / "events.jsonl"
    reader = EventReader(file)
    assert list(reader.poll()) == []  # no file yet
    whole = line(1, text="é") + line(2)
    for end in range(len(whole) + 1):
        file.write_bytes(whole[:end])
        found = [event["seq"] for event in reader.poll()]
        assert found == ([1] if end == len(line(1, text="é")) else [2] if end == len(whole) else [])
    assert reader.broken == 0


@pytest.mark.parametrize(
    "bad",
    [
        b"not json\n", b"\n", b"[1, 2]\n", b"3\n", b'"text"\n', b"null\n", b'{"seq": 9}\n', b'{"kind": "x", "t": 1}\n',
        line("x"), line(None), b'{"seq": Infinity, "t": 1, "kind": "x"}\n', b"\xff\xfe\x00\n", b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
def test_a_line_that_is_no_event_is_passed_over_and_counted(tmp_path, bad):
    (tmp_path / "events.jsonl").write_bytes(line(1) + bad + line(2))
    reader = EventReader(tmp_path / "events.jsonl")
    assert [event["seq"] for event in reader.poll()] == [1, 2]
    assert reader.broken == 1


def test_text_that_is_not_utf_8_does_not_hide_the_event(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(1, kind="message", message="X").replace(b"X", b"\xff"))
    (event,) = read_events(tmp_path / "events.jsonl")
    assert event["message"] == "\ufffd"


def test_an_event_is_told_once(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(1) + line(2) + line(2) + line(1) + line(3))
    assert [event["seq"] for event in read_events(tmp_path / "events.jsonl")] == [1, 2, 3]


def test_a_log_is_continued_after_a_crash(tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_bytes(line(1) + line(2) + line(3)[:-9])
    log = EventWriter(file)
    log.write("run")
    log.close()
    reader = EventReader(file)
    assert [(event["seq"], event["kind"]) for event in reader.poll()] == [(1, "step"), (2, "step"), (3, "run")]
    assert reader.broken == 1


def test_a_log_that_cannot_be_written(tmp_path):
    with pytest.raises(CheckpointError, match="cannot write"):
        EventWriter(tmp_path)


def test_status_is_written_at_most_once_a_second_unless_it_must(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("deeptune.runs.status.time.monotonic", lambda: now[0])
    status = StatusWriter(tmp_path / "status.json")

    def stored() -> dict:
        return json.loads((tmp_path / "status.json").read_text())

    status.update(phase="data")
    assert stored()["state"] == "running"
    status.update(step=1)
    assert "step" not in stored()
    now[0] += 1.0
    status.update(eta=2.5)
    assert (stored()["step"], stored()["eta"]) == (1, 2.5)
    status.update(state="done", force=True)
    assert stored()["state"] == "done"
    assert stored()["heartbeat"] > 0
