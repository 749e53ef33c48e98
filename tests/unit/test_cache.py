"""Entries of the cache on disk: their names, who may use them when, and which go when room runs out."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from deeptune.data.cache import entry as entry_module
from deeptune.data.cache.disk_records import EntryRequest, open_records
from deeptune.data.cache.entry import Cache, CacheRefused, cache_folder, cache_limit, entries, key_of, remove_leftovers
from deeptune.formatting import size_text

COUNT, SIZE = 10, 12  # rows, and bytes of each
KEY = key_of({"name": "one"})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def open_entry(cache, key=KEY):
    description = {"what": f"entry {key[:4]}", "width": 3}
    return open_records(cache, EntryRequest("features", key, COUNT, COUNT * SIZE, description, verify=True))


def content(rows) -> bytes:
    return b"".join(bytes([row]) * SIZE for row in rows)


def fill(records, rows=None):
    rows = records.missing() if rows is None else np.array(rows)
    records.put(rows, content(rows), SIZE)


def filled(key=KEY):
    with Cache() as cache:
        fill(open_entry(cache, key))


def is_whole(records) -> bool:
    return records.take(np.arange(COUNT)).tobytes() == content(range(COUNT))


# Who may do what, and when.


def hold(folder: str, ready, until, fill_it: bool) -> None:
    os.environ["DEEPTUNE_CACHE"] = folder
    with Cache() as cache:
        records = open_entry(cache)
        if fill_it:
            fill(records)
            records.settle()
        ready.set()
        until.wait()
        if not fill_it:
            fill(records)


@pytest.fixture
def other_run(folder):
    """`other_run(fill_it)`: another process that has the entry open; returns it and what ends it."""
    context = multiprocessing.get_context("spawn")
    started = []

    def start(fill_it):
        ready, until = context.Event(), context.Event()
        process = context.Process(target=hold, args=(str(folder.parent), ready, until, fill_it))
        process.start()
        started.append(process)
        assert ready.wait(60)
        return process, until

    yield start
    for process in started:
        process.kill()
        process.join()


def test_a_run_waits_for_another_that_computes_the_same(other_run):
    _, until = other_run(False)
    told = []

    def tell(text):
        told.append(text)
        until.set()

    with Cache(tell) as cache:
        records = open_entry(cache)
        assert not len(records.missing())
        assert is_whole(records)
    assert told == ["another run is computing the same features: waiting for it"]


def test_a_run_that_waits_goes_on_where_the_other_was_killed(other_run, monkeypatch):
    process, _ = other_run(False)
    monkeypatch.setattr(entry_module, "POLL_INTERVAL", 0.01)
    with Cache(lambda text: process.kill()) as cache:
        assert len(open_entry(cache).missing()) == COUNT


def test_a_run_that_waits_can_be_stopped(other_run):
    class Stop(Exception):
        pass

    def check():
        raise Stop

    other_run(False)
    with Cache(check=check) as cache, pytest.raises(Stop):
        open_entry(cache)


def test_readers_do_not_wait_for_one_another(other_run):
    other_run(True)
    with Cache(pytest.fail) as cache:
        assert not len(open_entry(cache).missing())


def test_what_another_run_uses_is_not_removed(other_run, folder):
    process, _ = other_run(True)
    (entry,) = entries()
    assert not entry.remove()
    assert (folder / KEY).exists()
    process.kill()
    process.join()
    assert entry.remove()
    assert not any(folder.iterdir())


def test_an_entry_that_is_removed_while_its_lock_is_asked_for_is_made_anew(monkeypatch):
    filled()
    flock, left = fcntl.flock, [1]

    def removing(handle, how):
        if how == fcntl.LOCK_SH and left:
            left.pop()
            assert entries()[0].remove()
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", removing)
    with Cache() as cache:
        records = open_entry(cache)
        assert len(records.missing()) == COUNT
        fill(records)
        records.settle()
        assert not entries()[0].remove()  # this run's lock is that of the entry that is there


def test_many_threads_that_open_and_remove_leave_a_whole_entry_or_none(folder):
    """Each entry that is read is whole, also while others remove the entry again and again."""
    problems, end = [], time.monotonic() + 1.5

    def use():
        while time.monotonic() < end:
            with Cache() as cache:
                records = open_entry(cache)
                fill(records)
                records.settle()
                if not is_whole(records):
                    problems.append("not whole")

    def remove():
        while time.monotonic() < end:
            for entry in entries():
                entry.remove()

    def guarded(work):
        try:
            work()
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (use, use, remove)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


# Room.


def entry_size() -> int:
    (entry,) = entries()
    return entry.bytes


def test_the_entries_not_used_for_longest_go_when_there_is_no_room(monkeypatch, folder):
    keys = [key_of({"name": name}) for name in "abcd"]
    for age, key in enumerate(keys[:3]):
        filled(key)
        os.utime(folder / key / "entry.json", (1e9 - age, 1e9 - age))
    with Cache() as cache:
        open_entry(cache, keys[2])  # the oldest is used again
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", f"{sum(entry.bytes for entry in entries()) + 50} B")
    told = []
    with Cache(told.append) as cache:
        fill(open_entry(cache, keys[3]))
    assert {entry.key for entry in entries()} == {keys[0], keys[2], keys[3]}
    assert len(told) == 1
    assert "removed from the cache to make room" in told[0]


def test_an_entry_in_use_is_never_removed_for_want_of_room(monkeypatch):
    filled()
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", f"{entry_size() + 50} B")
    with Cache() as cache:
        open_entry(cache)
        with pytest.raises(CacheRefused, match="runs in progress use"):
            open_entry(cache, key_of({"name": "other"}))
    assert [entry.key for entry in entries()] == [KEY]


def test_what_is_larger_than_the_limit_is_refused_and_removes_nothing(monkeypatch):
    filled()
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "100 B")
    with Cache() as cache, pytest.raises(CacheRefused, match=r"take 120 B .* hold 100 B"):
        open_entry(cache, key_of({"name": "other"}))
    assert [entry.key for entry in entries()] == [KEY]


def test_the_disk_must_have_room_for_twice_the_entry(monkeypatch):
    usage = type("Usage", (), {"free": 2 * 120 - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with Cache() as cache, pytest.raises(CacheRefused, match="has 239 B left"):
        open_entry(cache)
    usage.free += 1
    with Cache() as cache:
        fill(open_entry(cache))
    usage.free = 0
    with Cache() as cache:
        assert not len(open_entry(cache).missing())  # what is there needs no room


def test_a_full_disk_is_a_reason_and_the_entry_goes(monkeypatch, folder):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with Cache() as cache:
        records = open_entry(cache)
        fill(records, [0])
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(CacheRefused, match="No space left on device"):
            fill(records, [1])
        assert len(records.missing()) == COUNT - 1
        cache.discard(records)
        assert not any(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_a_reason(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "file"))
    assert entries() == []
    with Cache() as cache, pytest.raises(CacheRefused, match="Not a directory"):
        open_entry(cache)


# Names.


@pytest.mark.parametrize(
    ("text", "size"),
    [("20 GB", 20 * 10**9), ("1.5 GiB", 3 * 2**29), ("500mb", 5 * 10**8), ("0", 0), ("12 B", 12), ("", 20 * 10**9)],
)
def test_the_limit_is_a_size(monkeypatch, text, size):
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", text)
    assert cache_limit() == size


@pytest.mark.parametrize("text", ["much", "-1 GB", "1 XB", "GB", "1e3", "nan"])
def test_what_is_no_size_is_said(monkeypatch, text):
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", text)
    with pytest.raises(CacheRefused, match="DEEPTUNE_CACHE_LIMIT"):
        cache_limit()


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("DEEPTUNE_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "deeptune"
    for none in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", none)
        assert cache_folder() == Path.home() / ".cache" / "deeptune"


def test_sizes_are_short():
    sizes = (0, 999, 1000, 12_345, 123_456, 999_600, 2.5e9, 3e15)
    assert list(map(size_text, sizes)) == [
        "0 B", "999 B", "1.0 kB", "12.3 kB", "123 kB", "1.0 MB", "2.5 GB", "3000 TB",
    ]  # fmt: skip


def test_a_key_depends_on_content_and_not_on_order():
    one = key_of({"a": 1, "b": {"c": [1, 2], "d": None}})
    assert one == key_of({"b": {"d": None, "c": [1, 2]}, "a": 1})
    assert len({one, key_of({"a": 2, "b": {"c": [1, 2], "d": None}}), key_of({"a": 1, "b": {"c": [2, 1]}})}) == 3


def test_entries_are_listed_as_they_are(folder):
    filled()
    with Cache() as cache:
        fill(open_entry(cache, key_of({"name": "half"})), [0])
    (folder / ("f" * 64)).mkdir()
    (folder / ("f" * 64) / "entry.json").write_text(json.dumps({"rows": "many"}))
    (folder / "notes.txt").write_text("not an entry")
    found = {entry.key: entry for entry in entries()}
    assert len(found) == 3
    assert (found[KEY].rows, found[KEY].width, found[KEY].complete) == (COUNT, 3, True)
    assert not found[key_of({"name": "half"})].complete
    assert found["f" * 64].what == "damaged"
    assert found["f" * 64].remove()


def test_an_entry_of_another_format_is_listed_as_that(folder):
    filled()
    description = json.loads((folder / KEY / "entry.json").read_text())
    (folder / KEY / "entry.json").write_text(json.dumps({**description, "format": 2}))
    (entry,) = entries()
    assert entry.what == f"entry {KEY[:4]} (from another version of DeepTune)"
    assert entry.remove()


def test_what_is_left_of_a_removal_goes(folder):
    (folder / ".abc.removed").mkdir(parents=True)
    (folder / ".abc.removed" / "data.bin").write_text("x")
    remove_leftovers()
    assert not any(folder.iterdir())
