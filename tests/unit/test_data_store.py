"""Stores of samples: bytes of any length in any order, in memory and on disk; left in the midst, damaged, and full."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeptune.data import entries as entries_module
from deeptune.data.columns import TooLarge
from deeptune.data.entries import Cache, CacheRefused, entries, key_of
from deeptune.data.store import Damaged, DiskStore, MemoryStore, open_store

KEY = key_of({"name": "store"})
SAMPLES = [b"one", b"", b"three" * 100, bytes(7), b"\xff" * 1000]
FLAGS = [0, 1, 0, 4, 0]
HASHES = [11, 12, 2**64 - 1, 0, 15]
RECORD = 24  # bytes of a row in index.bin


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "samples" / KEY


def opened(cache: Cache, rows: int = len(SAMPLES)) -> DiskStore:
    return open_store(cache, KEY, rows, 1000, {"what": "five samples"})


def add(store, start: int, stop: int) -> None:
    some = SAMPLES[start:stop]
    flags, hashes = np.array(FLAGS[start:stop], np.uint32), np.array(HASHES[start:stop], np.uint64)
    store.add(b"".join(some), np.array([len(one) for one in some]), flags, hashes)


def filled(cache: Cache) -> DiskStore:
    store = opened(cache)
    add(store, store.count, len(SAMPLES))
    store.settle()
    return store


def contents(store) -> list[bytes]:
    return [store.read(row).tobytes() for row in range(store.count)]


@given(st.lists(st.lists(st.binary(max_size=20), max_size=4), max_size=6), st.randoms())
def test_in_memory_what_was_added_is_read_in_any_order(parts, random):
    samples = [one for part in parts for one in part]
    store = MemoryStore(len(samples), 10_000)
    for part in parts:
        none = np.zeros(len(part), np.uint32)
        store.add(b"".join(part), np.array([len(one) for one in part], np.int64), none, none)
    rows = random.sample(range(len(samples)), len(samples))
    assert [store.read(row).tobytes() for row in rows] == [samples[row] for row in rows]
    assert store.lengths.tolist() == [len(one) for one in samples]
    assert store.size == sum(map(len, samples))


def test_memory_has_an_end():
    store = MemoryStore(5, 600)
    add(store, 0, 3)
    with pytest.raises(TooLarge, match="600 B"):
        add(store, 3, 5)
    assert contents(store) == SAMPLES[:3]


def test_what_is_on_disk_is_there_for_the_next_run(folder):
    with Cache() as cache:
        store = filled(cache)
        assert contents(store) == SAMPLES
        assert store.flags.tolist() == FLAGS
    with Cache() as cache:
        store = opened(cache)
        assert (store.count, store.lacks()) == (5, 0)
        assert [store.read(row).tobytes() for row in (4, 0, 3, 1, 2)] == [SAMPLES[row] for row in (4, 0, 3, 1, 2)]
        assert store.lengths.tolist() == [len(one) for one in SAMPLES]
        assert store.flags.tolist() == FLAGS
        assert store.hashes.tolist() == HASHES
        (entry,) = entries()
        assert (entry.what, entry.rows, entry.width, entry.complete) == ("five samples", 5, None, True)
        assert not entry.remove()  # a run has it open
    assert entry.remove()
    assert entries() == []


def test_what_is_read_is_a_copy_or_goes_where_it_is_wanted():
    with Cache() as cache:
        store = filled(cache)
        store.read(0)[:] = 0
        assert contents(store) == SAMPLES
        into = np.zeros((2, 2, 125), np.uint8)
        store.read(2, into)
        assert into.tobytes() == SAMPLES[2]
        with pytest.raises(Damaged):
            store.read(2, np.zeros(3, np.uint8))


def test_it_is_gone_on_with_where_it_was_left():
    with Cache() as cache:
        add(opened(cache), 0, 2)
    (entry,) = entries()
    assert not entry.complete
    with Cache() as cache:
        store = opened(cache)
        assert store.count == 2
        add(store, 2, 5)
        store.settle()
        assert contents(store) == SAMPLES


def test_a_kill_costs_what_was_not_recorded(folder):
    program = f"""
import os, signal, numpy as np
from deeptune.data import entries, store
entries.FLUSH_EVERY = 1e9
found = store.open_store(entries.Cache(), {KEY!r}, 5, 1000, {{}})
add = lambda data: found.add(data, np.array([len(data)]), *np.zeros((2, 1), np.uint32))
add(b"first")
found.flush()
add(b"lost")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert (folder / "data.bin").read_bytes() == b"firstlost"
    with Cache() as cache:
        store = opened(cache)
        assert contents(store) == [b"first"]
        store.add(b"new", np.array([3]), *np.zeros((2, 1), np.uint32))
        store.flush()
        assert contents(store) == [b"first", b"new"]
    with Cache() as cache:
        assert contents(opened(cache)) == [b"first", b"new"]


def test_records_come_after_the_bytes_are_on_the_disk(monkeypatch, folder):
    monkeypatch.setattr(entries_module, "FLUSH_EVERY", 0.0)
    with Cache() as cache:
        store = opened(cache)
        seen = []
        fsync = os.fsync
        monkeypatch.setattr(
            os, "fsync", lambda handle: (seen.append((folder / "index.bin").stat().st_size), fsync(handle))
        )
        add(store, 0, 2)
        add(store, 2, 5)
        assert seen == [0, 2 * RECORD, 2 * RECORD, 5 * RECORD]


@pytest.mark.parametrize(
    ("place", "where"), [("data.bin", 100), ("index.bin", 8), ("index.bin", 12), ("index.bin", 16)]
)  # the bytes of row 2; its checksum, flag and hash
def test_a_row_that_was_damaged_is_not_read_and_made_again_by_the_next_run(folder, place, where):
    with Cache() as cache:
        filled(cache)
    content = bytearray((folder / place).read_bytes())
    content[where if place == "data.bin" else 2 * RECORD + where] ^= 1
    (folder / place).write_bytes(content)
    with Cache() as cache:
        store = opened(cache)
        with pytest.raises(Damaged):
            store.read(2)
        assert store.read(4).tobytes() == SAMPLES[4]
    with Cache() as cache:
        store = opened(cache)
        assert store.count == 2
        add(store, 2, 5)
        store.settle()
        assert contents(store) == SAMPLES


@pytest.mark.parametrize("size", [0, 23, 60, 1505])
def test_a_file_that_was_cut_costs_what_was_cut_off(folder, size):
    with Cache() as cache:
        filled(cache)
    os.truncate(folder / ("data.bin" if size > 5 * RECORD else "index.bin"), size)
    with Cache() as cache:
        store = opened(cache)
        assert store.count == (4 if size > 5 * RECORD else size // RECORD)
        add(store, store.count, 5)
        store.settle()
        assert contents(store) == SAMPLES


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2, "rows": 4}', "[" * 100_000])
def test_a_description_that_is_another_is_told(folder, content):
    with Cache() as cache:
        filled(cache)
    (folder / "entry.json").write_text(content)
    told = []
    with Cache(told.append) as cache:
        assert opened(cache).count == 0
    assert len(told) == 1
    assert "were damaged" in told[0]


def read_all(store: DiskStore, turns: int, found) -> None:
    for row in range(turns):
        found.put((row % 5, store.read(row % 5).tobytes()))


def test_forks_read_without_disturbing_one_another():
    with Cache() as cache:
        store = filled(cache)
        context = multiprocessing.get_context("fork")
        found = context.Queue()
        forks = [context.Process(target=read_all, args=(store, 50, found)) for _ in range(3)]
        for fork in forks:
            fork.start()
        for row, content in (found.get(timeout=30) for _ in range(150)):
            assert content == SAMPLES[row]
        for fork in forks:
            fork.join()


def test_a_full_disk_is_a_reason(monkeypatch):
    with Cache() as cache:
        store = opened(cache)

        def full(handle, content):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(CacheRefused, match="No space left"):
                add(store, 0, 2)
        cache.discard(store)
        assert entries() == []


def test_what_is_larger_than_the_limit_is_refused(monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "999 B")
    with Cache() as cache, pytest.raises(CacheRefused, match=r"the samples take 1\.0 kB and the cache may hold"):
        opened(cache)
