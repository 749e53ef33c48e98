"""The cache of features on disk: what an entry is named by, and what it survives."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from deeptune.data import cache as cache_module
from deeptune.data import entries as entries_module
from deeptune.data.cache import DiskTable, FeatureCache, Table
from deeptune.data.entries import (
    CacheRefused,
    cache_folder,
    cache_limit,
    entries,
    key_of,
    remove_leftovers,
    size_text,
)

ROWS, WIDTH, BLOCK = np.arange(0, 20, 2), 3, 4  # 10 rows: blocks of 4, 4 and 2
ORDER = np.array([3, 1, 2, 0, 9, 8, 7, 6, 5, 4])
KEY = key_of({"name": "one"})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def open_entry(cache, key=KEY, order=lambda: ORDER):
    return cache.open(key, ROWS, WIDTH, BLOCK, order, {"what": f"entry {key[:4]}"})


def content(block: int) -> np.ndarray:
    """What the backbone says of a block's rows: each row's own number, and its place in the row."""
    rows = ROWS[ORDER][block * BLOCK : (block + 1) * BLOCK]
    return (rows[:, None] * 10 + np.arange(WIDTH)).astype(np.float32)


def fill(table, blocks=None):
    for block in table.missing() if blocks is None else blocks:
        table.put(block, content(block))


def filled(key=KEY):
    with FeatureCache() as cache:
        fill(open_entry(cache, key))


def expected(rows) -> np.ndarray:
    return (np.asarray(rows)[:, None] * 10 + np.arange(WIDTH)).astype(np.float32)


def test_rows_are_found_whatever_order_they_were_computed_in():
    with FeatureCache() as cache:
        table = open_entry(cache)
        assert table.missing() == [0, 1, 2]
        assert table.rows_of([0, 2]).tolist() == [6, 2, 4, 0, 10, 8]
        fill(table)
        table.settle()
        assert np.array_equal(table.take(ROWS), expected(ROWS))
    with FeatureCache() as cache:
        table = open_entry(cache, order=lambda: pytest.fail("the order is stored"))
        assert table.missing() == []
        assert np.array_equal(table.take(np.array([8, 0, 18])), expected([8, 0, 18]))


def test_memory_and_disk_hold_the_same():
    memory = Table(ROWS, WIDTH, BLOCK, ORDER)
    with FeatureCache() as cache:
        table = open_entry(cache)
        fill(table, [2, 0])
        memory.adopt(table)
    assert memory.missing() == [1]
    fill(memory)
    assert np.array_equal(memory.take(ROWS), expected(ROWS))


def test_what_was_flushed_outlives_the_process_and_the_rest_is_missing():
    code = f"""
import os, signal, numpy as np
from deeptune.data import cache, entries
entries.FLUSH_EVERY = 1e9
table = cache.FeatureCache().open({KEY!r}, np.arange(0, 20, 2), 3, 4, lambda: np.array({ORDER.tolist()}), {{}})
table.put(0, np.array({content(0).tolist()}))
table.flush()
table.put(1, np.array({content(1).tolist()}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with FeatureCache() as cache:
        table = open_entry(cache)
        assert table.missing() == [1, 2]
        fill(table)
        table.settle()
        assert np.array_equal(table.take(ROWS), expected(ROWS))


def test_data_are_on_the_disk_before_they_are_recorded(monkeypatch, folder):
    recorded = []
    fsync = os.fsync

    def looking(handle):
        file, record = folder / KEY / "features.bin", folder / KEY / "blocks.txt"
        recorded.append((os.path.samestat(os.fstat(handle), file.stat()), record.exists()))
        fsync(handle)

    with FeatureCache() as cache:
        table = open_entry(cache)
        fill(table, [0])
        monkeypatch.setattr(os, "fsync", looking)
        table.flush()
    assert recorded == [(True, False), (False, True)]  # the table while there is no record; then the record


def test_blocks_are_recorded_now_and_then_without_being_asked(monkeypatch):
    monkeypatch.setattr(entries_module, "FLUSH_EVERY", 0.0)
    with FeatureCache() as cache:
        table = open_entry(cache)
        fill(table, [0])
        assert (table.folder / "blocks.txt").read_text().count("\n") == 1


def test_a_torn_record_counts_for_nothing(folder):
    filled()
    record = folder / KEY / "blocks.txt"
    record.write_text(record.read_text()[:-4])
    told = []
    with FeatureCache(told.append) as cache:
        table = open_entry(cache)
        assert table.missing() == [2]
        fill(table)
    with FeatureCache() as cache:
        assert open_entry(cache).missing() == []


@pytest.mark.parametrize("place", [0, 17, 60, 119])
def test_a_damaged_block_is_noticed_and_only_it_is_missing(folder, place):
    filled()
    file = folder / KEY / "features.bin"
    stored = bytearray(file.read_bytes())
    stored[place] ^= 1
    file.write_bytes(stored)
    told = []
    with FeatureCache(told.append) as cache:
        table = open_entry(cache)
        assert table.missing() == [place // (BLOCK * WIDTH * 4)]
        fill(table)
        table.settle()
        assert np.array_equal(table.take(ROWS), expected(ROWS))
    assert "1 of 3 blocks" in told[0]
    assert "damaged" in told[0]


def test_a_line_of_the_record_vouches_for_its_own_block_only(folder):
    with FeatureCache() as cache:
        table = open_entry(cache)
        for block in (0, 1):
            table.put(block, np.zeros((BLOCK, WIDTH)))
    record = folder / KEY / "blocks.txt"
    first, second = record.read_text().splitlines()
    assert first.split()[1] != second.split()[1]
    record.write_text(f"0 {second.split()[1]}\n{second}\nno line\n{'9' * 5000} 0\n99 {second.split()[1]}\n")
    with FeatureCache() as cache:
        assert open_entry(cache).missing() == [0, 2]


def test_a_truncated_table_keeps_the_blocks_that_are_whole(folder):
    filled()
    os.truncate(folder / KEY / "features.bin", 70)
    told = []
    with FeatureCache(told.append) as cache:
        table = open_entry(cache)
        assert table.missing() == [1, 2]
        fill(table)
        table.settle()
        assert np.array_equal(table.take(ROWS), expected(ROWS))
    assert "2 of 3 blocks" in told[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("entry.json", "{"),
        ("entry.json", "[]"),
        ("entry.json", '{"format": 1, "rows": 11}'),
        ("entry.json", "[" * 100_000),
        ("order.bin", "short"),
        ("order.bin", None),
        ("features.bin", None),
    ],
)
def test_an_entry_that_makes_no_sense_is_made_anew(folder, name, text):
    filled()
    if text is None:
        (folder / KEY / name).unlink()
    else:
        (folder / KEY / name).write_text(text)
    told = []
    with FeatureCache(told.append) as cache:
        table = open_entry(cache)
        assert table.missing() == [0, 1, 2]
        fill(table)
        table.settle()
        assert np.array_equal(table.take(ROWS), expected(ROWS))
    assert "damaged" in told[0]
    with FeatureCache() as cache:
        assert open_entry(cache).missing() == []


# Who may do what, and when.


def hold(folder: str, ready, until, fill_it: bool) -> None:
    os.environ["DEEPTUNE_CACHE"] = folder
    with FeatureCache() as cache:
        table = open_entry(cache)
        if fill_it:
            fill(table)
            table.settle()
        ready.set()
        until.wait()
        if not fill_it:
            fill(table)


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

    with FeatureCache(tell) as cache:
        table = open_entry(cache)
        assert table.missing() == []
        assert np.array_equal(table.take(ROWS), expected(ROWS))
    assert told == ["another run is computing the same features: waiting for them"]


def test_a_run_that_waits_goes_on_where_the_other_was_killed(other_run, monkeypatch):
    process, _ = other_run(False)
    monkeypatch.setattr(entries_module, "LOOK", 0.01)
    with FeatureCache(lambda text: process.kill()) as cache:
        assert open_entry(cache).missing() == [0, 1, 2]


def test_a_run_that_waits_can_be_stopped(other_run):
    class Stop(Exception):
        pass

    def check():
        raise Stop

    other_run(False)
    with FeatureCache(check=check) as cache, pytest.raises(Stop):
        open_entry(cache)


def test_readers_do_not_wait_for_one_another(other_run):
    other_run(True)
    with FeatureCache(lambda text: pytest.fail(text)) as cache:
        assert open_entry(cache).missing() == []


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
    with FeatureCache() as cache:
        table = open_entry(cache)
        assert table.missing() == [0, 1, 2]
        fill(table)
        table.settle()
        assert not entries()[0].remove()  # this run's lock is that of the entry that is there


def test_many_threads_that_open_and_remove_leave_a_whole_entry_or_none(folder):
    """Each table that is read is whole, also while others remove the entry again and again."""
    problems, end = [], time.monotonic() + 1.5

    def use():
        while time.monotonic() < end:
            with FeatureCache() as cache:
                table = open_entry(cache)
                fill(table)
                table.settle()
                if not np.array_equal(table.take(ROWS), expected(ROWS)):
                    problems.append(table.take(ROWS))

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


def table_size() -> int:
    (entry,) = entries()
    return entry.bytes


def test_the_entries_not_used_for_longest_go_when_there_is_no_room(monkeypatch, folder):
    keys = [key_of({"name": name}) for name in "abcd"]
    for age, key in enumerate(keys[:3]):
        filled(key)
        os.utime(folder / key / "entry.json", (1e9 - age, 1e9 - age))
    with FeatureCache() as cache:
        open_entry(cache, keys[2])  # the oldest is used again
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", f"{sum(entry.bytes for entry in entries()) + 50} B")
    told = []
    with FeatureCache(told.append) as cache:
        fill(open_entry(cache, keys[3]))
    assert {entry.key for entry in entries()} == {keys[0], keys[2], keys[3]}
    assert len(told) == 1
    assert "removed from the cache for want of room" in told[0]


def test_an_entry_in_use_is_never_removed_for_want_of_room(monkeypatch):
    filled()
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", f"{table_size() + 50} B")
    with FeatureCache() as cache:
        open_entry(cache)
        with pytest.raises(CacheRefused, match="runs in progress use"):
            open_entry(cache, key_of({"name": "other"}))
    assert [entry.key for entry in entries()] == [KEY]


def test_what_is_larger_than_the_limit_is_refused_and_removes_nothing(monkeypatch):
    filled()
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "100 B")
    with FeatureCache() as cache, pytest.raises(CacheRefused, match=r"take 120 B .* hold 100 B"):
        open_entry(cache, key_of({"name": "other"}))
    assert [entry.key for entry in entries()] == [KEY]


def test_the_disk_must_have_room_for_twice_the_table(monkeypatch):
    usage = type("Usage", (), {"free": 2 * 120 - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with FeatureCache() as cache, pytest.raises(CacheRefused, match="has 239 B left"):
        open_entry(cache)
    usage.free += 1
    with FeatureCache() as cache:
        fill(open_entry(cache))
    usage.free = 0
    with FeatureCache() as cache:
        assert open_entry(cache).missing() == []  # what is there needs no room


def test_a_full_disk_is_a_reason_and_the_entry_goes(monkeypatch, folder):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with FeatureCache() as cache:
        table = open_entry(cache)
        fill(table, [0])
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(CacheRefused, match="No space left on device"):
            fill(table, [1])
        assert table.missing() == [1, 2]
        cache.discard(table)
        assert not any(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_a_reason(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "file"))
    assert entries() == []
    with FeatureCache() as cache, pytest.raises(CacheRefused, match="Not a directory"):
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
    with FeatureCache() as cache:
        fill(open_entry(cache, key_of({"name": "half"})), [0])
    (folder / ("f" * 64)).mkdir()
    (folder / ("f" * 64) / "entry.json").write_text(json.dumps({"rows": "many"}))
    (folder / "notes.txt").write_text("not an entry")
    found = {entry.key: entry for entry in entries()}
    assert len(found) == 3
    assert (found[KEY].rows, found[KEY].width, found[KEY].complete) == (10, WIDTH, True)
    assert not found[key_of({"name": "half"})].complete
    assert found["f" * 64].what == "damaged"
    assert found["f" * 64].remove()


def test_what_is_left_of_a_removal_goes(folder):
    (folder / ".abc.removed").mkdir(parents=True)
    (folder / ".abc.removed" / "features.bin").write_text("x")
    remove_leftovers()
    assert not any(folder.iterdir())


def test_the_memory_of_a_large_table_is_given_back(monkeypatch):
    monkeypatch.setattr(cache_module, "MAPPED", 64)
    with FeatureCache() as cache:
        table = open_entry(cache)
        fill(table)
        for _ in range(3):
            assert np.array_equal(table.take(ROWS), expected(ROWS))
            assert isinstance(table, DiskTable)
            assert table._touched == 0
