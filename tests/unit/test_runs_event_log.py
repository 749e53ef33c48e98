"""The event log, written by one and read by anyone at any moment."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import pytest

from deeptune.errors import CheckpointError
from deeptune.runs import EventWriter, StatusWriter, read_records
from deeptune.runs.event_log import EventReader


def line(sequence: object, kind: str = "step", **content) -> bytes:
    return json.dumps({"v": 1, "seq": sequence, "t": 1.0, "kind": kind, **content}).encode() + b"\n"


def test_what_is_written_is_read(tmp_path):
    log = EventWriter(tmp_path / "events.jsonl")
    log.record("run", id="a")
    log.record("step", loss=float("nan"), rate=[1.0, float("inf")], nested={"deep": (float("-inf"), 2)})
    log.warning("two\nlines \x1b[31m é \udcff")
    log.close()
    log.close()
    first, second, third = read_records(tmp_path / "events.jsonl")
    assert (first["v"], first["seq"], first["kind"], first["id"]) == (1, 1, "run", "a")
    assert (second["loss"], second["rate"], second["nested"]) == (None, [1.0, None], {"deep": [None, 2]})
    assert third["message"] == "two\nlines \x1b[31m é \udcff"
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 3


def test_each_event_is_there_as_soon_as_it_is_written(tmp_path):
    log, reader = EventWriter(tmp_path / "events.jsonl"), EventReader(tmp_path / "events.jsonl")
    assert list(reader.records()) == []
    for number in range(1, 4):
        log.record("step", number=number)
        assert [event["number"] for event in reader.records()] == [number]
    assert list(reader.records()) == []


def test_a_line_that_is_not_finished_waits(tmp_path):
    file = tmp_path / "events.jsonl"
    reader = EventReader(file)
    assert list(reader.records()) == []  # no file yet
    whole = line(1, text="é") + line(2)
    for end in range(len(whole) + 1):
        file.write_bytes(whole[:end])
        found = [event["seq"] for event in reader.records()]
        assert found == ([1] if end == len(line(1, text="é")) else [2] if end == len(whole) else [])
    assert reader.broken == 0


@pytest.mark.parametrize(
    "bad",
    [
        b"not json\n", b"\n", b"[1, 2]\n", b"3\n", b'"text"\n', b"null\n", b'{"seq": 9}\n', b'{"kind": "x", "t": 1}\n',
        line("x"), line(None), b'{"seq": Infinity, "t": 1, "kind": "x"}\n', b"\xff\xfe\x00\n", b"[" * 100_000 + b"\n",
    ],
    ids=range(13),
)  # fmt: skip
def test_a_line_that_is_no_event_is_passed_over_and_counted(tmp_path, bad):
    (tmp_path / "events.jsonl").write_bytes(line(1) + bad + line(2))
    reader = EventReader(tmp_path / "events.jsonl")
    assert [event["seq"] for event in reader.records()] == [1, 2]
    assert reader.broken == 1


def test_two_broken_lines_do_not_make_a_whole_one(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(b'{"seq": 1, "t": 1.0\n"kind": "x"}\n' + line(2))
    reader = EventReader(tmp_path / "events.jsonl")
    assert [event["seq"] for event in reader.records()] == [2]
    assert reader.broken == 2


def test_text_that_is_not_utf_8_does_not_hide_the_event(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(1, kind="message", message="X").replace(b"X", b"\xff"))
    (event,) = read_records(tmp_path / "events.jsonl")
    assert event["message"] == "\ufffd"


def test_an_event_is_told_once(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(line(1) + line(2) + line(2) + line(1) + line(3))
    assert [event["seq"] for event in read_records(tmp_path / "events.jsonl")] == [1, 2, 3]


def test_a_log_is_continued_after_a_crash(tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_bytes(line(1) + line(2) + line(3)[:-9])
    log = EventWriter(file)
    log.record("run")
    log.close()
    reader = EventReader(file)
    assert [(event["seq"], event["kind"]) for event in reader.records()] == [(1, "step"), (2, "step"), (3, "run")]
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


def test_a_log_that_is_cut_and_grows_again_tells_nothing_twice(tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"".join(line(number) for number in range(1, 6)))
    reader = EventReader(file)
    assert len(list(reader.records())) == 5
    os.truncate(file, len(line(1)) * 2 + 7)  # as a disk that was full, or a power cut, may leave it
    assert list(reader.records()) == []
    with file.open("ab") as log:
        log.write(b"\n" + line(6))
    assert [event["seq"] for event in reader.records()] == [6]
    file.unlink()
    assert list(reader.records()) == []


def test_a_long_log_is_read_whole_through_all_its_damage(tmp_path):
    number = 100_000
    lines = [line(seq, loss=0.5, rate=[1, 2], message="é") for seq in range(1, number + 1)]
    for place in range(0, number, 1000):
        lines[place] += lines[place] + b"half a li\n" + b"\xff\n"
    (tmp_path / "events.jsonl").write_bytes(b"".join(lines))
    reader = EventReader(tmp_path / "events.jsonl")
    assert [event["seq"] for event in reader.records()] == list(range(1, number + 1))
    assert reader.broken == 200


@pytest.mark.parametrize("odd", [None, '"\\ud800"', "NaN", "1e400", "[[[", '{"a":'])
def test_a_long_log_is_read_as_its_lines_are(tmp_path, odd):
    lines = [json.dumps({"v": 1, "seq": n, "t": n / 3, "kind": "message", "message": f"é {n}"}) for n in range(1, 1201)]
    if odd is not None:
        lines[700] = f'{{"v": 1, "seq": 701, "t": 1.5, "kind": "message", "message": {odd}}}'
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            expected.append(json.loads(line))
    found = read_records(path)
    assert [json.dumps(one, sort_keys=True) for one in found] == [json.dumps(one, sort_keys=True) for one in expected]
