"""Records: bytes of any length in any order, in memory and on disk; after kills, damage and full disks."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptune.data.cache import disk_records
from deeptune.data.cache import entry as entry_module
from deeptune.data.cache.disk_records import DiskRecords, EntryRequest, open_records
from deeptune.data.cache.entry import Cache, CacheRefused, entries, key_of
from deeptune.data.cache.records import RECORD, Damaged, MemoryRecords, TooLarge
from deeptune.data.loading.features import Features

KEY = key_of({"name": "records"})
SAMPLES = [b"one", b"", b"three" * 100, bytes(7), b"\xff" * 1000]
FLAGS = [0, 1, 0, 4, 0]
HASHES = [11, 12, 2**64 - 1, 0, 15]
ROWS = range(len(SAMPLES))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "samples" / KEY


def opened(cache: Cache, *, verify: bool = False) -> DiskRecords:
    return open_records(cache, EntryRequest("samples", KEY, 5, 1000, {"what": "five samples"}, verify=verify))


def put(records, rows) -> None:
    rows = list(rows)
    data, lengths = b"".join(SAMPLES[row] for row in rows), np.array([len(SAMPLES[row]) for row in rows])
    flags, hashes = (np.array([values[row] for row in rows]) for values in (FLAGS, np.array(HASHES, np.uint64)))
    records.put(np.array(rows), data, lengths, flags, hashes)


def filled(cache: Cache) -> DiskRecords:
    records = opened(cache)
    put(records, records.missing().tolist())
    records.settle()
    return records


def contents(records, rows=ROWS) -> list[bytes]:
    return [records.read(row).tobytes() for row in rows]


def change(file, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


# In memory and on disk.


@pytest.mark.parametrize("kind", ["memory", "disk"])
@settings(max_examples=40, deadline=None)
@given(samples=st.lists(st.binary(max_size=20), max_size=12), order=st.randoms(), step=st.integers(1, 5))
def test_what_is_written_in_any_order_is_read_in_any_order(kind, samples, order, step):
    rows = np.array(order.sample(range(len(samples)), len(samples)), np.int64)
    with Cache() as cache:
        if kind == "memory":
            records = MemoryRecords(len(samples), 10_000)
        else:
            key = key_of({"samples": repr(samples), "order": rows.tolist(), "step": step})
            records = open_records(cache, EntryRequest("samples", key, len(samples), 240, {"what": "some"}))
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            records.put(some, b"".join(samples[row] for row in some), np.array([len(samples[row]) for row in some]))
        assert records.done.all()
        assert contents(records, range(len(samples))) == samples
        assert records.lengths.tolist() == [len(one) for one in samples]
        assert records.size == sum(map(len, samples))
        assert records.take(rows).tobytes() == b"".join(samples[row] for row in rows)
        if kind == "disk":
            cache.discard(records)


def test_memory_has_a_limit():
    records = MemoryRecords(5, 600)
    put(records, [0, 1, 2])
    with pytest.raises(TooLarge, match="600 B"):
        put(records, [3, 4])
    assert records.missing().tolist() == [3, 4]
    assert contents(records, [0, 1, 2]) == SAMPLES[:3]


def test_memory_takes_over_what_is_on_disk():
    with Cache() as cache:
        disk = opened(cache)
        put(disk, [2, 0])
        memory = MemoryRecords(5, 10_000)
        memory.adopt(disk)
    assert memory.missing().tolist() == [1, 3, 4]
    assert contents(memory, [0, 2]) == [SAMPLES[0], SAMPLES[2]]
    assert memory.flags[2] == FLAGS[2]
    assert memory.hashes[2] == HASHES[2]


def test_what_is_on_disk_is_there_for_the_next_run():
    with Cache() as cache:
        assert contents(filled(cache)) == SAMPLES
    with Cache() as cache:
        records = opened(cache)
        assert records.missing_bytes() == 0
        assert contents(records, (4, 0, 3, 1, 2)) == [SAMPLES[row] for row in (4, 0, 3, 1, 2)]
        assert records.lengths.tolist() == [len(one) for one in SAMPLES]
        assert records.flags.tolist() == FLAGS
        assert records.hashes.tolist() == HASHES
        (entry,) = entries()
        assert (entry.what, entry.rows, entry.width, entry.complete) == ("five samples", 5, None, True)
        assert not entry.remove()  # a run has it open
    assert entry.remove()
    assert entries() == []


def test_what_is_read_is_a_copy_or_goes_where_it_is_wanted():
    with Cache() as cache:
        records = filled(cache)
        records.read(0)[:] = 0
        records.take(np.array([0, 2]))[:] = 0
        assert contents(records) == SAMPLES
        into = np.zeros((2, 2, 125), np.uint8)
        records.read(2, into)
        assert into.tobytes() == SAMPLES[2]
        with pytest.raises(Damaged):
            records.read(2, np.zeros(3, np.uint8))


def test_features_of_some_rows_of_a_source():
    rows, vectors = np.arange(0, 20, 2), np.arange(30, dtype=np.float32).reshape(10, 3)
    features = Features(MemoryRecords(10, 120), rows, 3)
    features.put(rows[[4, 1, 7]], vectors[[4, 1, 7]])
    assert features.done(rows[[1, 2, 4]]).tolist() == [True, False, True]
    features.put(rows[[4, 5]], vectors[[0, 5]])  # a row that is there stays
    assert np.array_equal(features.take(rows[[7, 4, 5]]), vectors[[7, 4, 5]])


def test_features_of_tokens_are_as_many_as_a_row_has():
    rows, lengths = np.array([3, 8, 9]), np.array([2, 1, 3])
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    features = Features(MemoryRecords(3, 48), rows, 2)
    features.put(rows, vectors, lengths)
    assert np.array_equal(features.take(np.array([9, 3])), vectors[[3, 4, 5, 0, 1]])


# Kills.


def test_an_entry_is_filled_up_by_the_next_run():
    with Cache() as cache:
        put(opened(cache), [3, 0])
    (entry,) = entries()
    assert not entry.complete
    with Cache() as cache:
        records = opened(cache)
        assert records.missing().tolist() == [1, 2, 4]
        put(records, [1, 2, 4])
        records.settle()
        assert contents(records) == SAMPLES
    (entry,) = entries()
    assert entry.complete


def test_a_kill_costs_what_was_not_flushed(folder):
    program = f"""
import os, signal, numpy as np
from deeptune.data.cache import disk_records, entry
entry.FLUSH_INTERVAL = 1e9
found = disk_records.open_records(entry.Cache(), disk_records.EntryRequest("samples", {KEY!r}, 5, 1000, {{}}))
found.put(np.array([2]), b"first", 5)
found.flush()
found.put(np.array([0]), b"lost", 4)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert (folder / "data.bin").read_bytes() == b"firstlost"
    with Cache() as cache:
        records = opened(cache)
        assert records.missing().tolist() == [0, 1, 3, 4]
        records.put(np.array([0]), b"new", 3)
    with Cache() as cache:
        assert contents(opened(cache), [0, 2]) == [b"new", b"first"]


def test_bytes_are_on_the_disk_before_their_records(monkeypatch, folder):
    monkeypatch.setattr(entry_module, "FLUSH_INTERVAL", 0.0)
    with Cache() as cache:
        records = opened(cache)
        seen, fsync = [], os.fsync

        def looking(handle):
            is_data = os.path.samestat(os.fstat(handle), (folder / "data.bin").stat())
            seen.append((is_data, (folder / "index.bin").stat().st_size // RECORD.itemsize))
            fsync(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", looking)
            put(records, [0, 1])
            put(records, [2, 3, 4])
        assert seen == [(True, 0), (False, 2), (True, 2), (False, 5)]


# Damage.


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize(
    ("file", "place"), [("data.bin", 100), ("index.bin", 4), ("index.bin", 8), ("index.bin", 17), ("index.bin", 24)]
)  # the bytes of row 2; its size, start, checksum and hash
def test_a_damaged_row_is_not_read_and_made_again_by_the_next_run(folder, file, place, verify):
    with Cache() as cache:
        filled(cache)
    change(folder / file, place if file == "data.bin" else 2 * RECORD.itemsize + place)
    told = []
    with Cache(told.append) as cache:
        records = opened(cache, verify=verify)
        if not verify:
            with pytest.raises(Damaged):
                records.read(2)
        assert records.missing().tolist() == [2]
        assert contents(records, [4, 1]) == [SAMPLES[4], SAMPLES[1]]
    assert [f"1 of 5 rows of the stored samples in {folder} were damaged" in one for one in told] == [True] * verify
    with Cache() as cache:
        records = opened(cache)
        assert records.missing().tolist() == [2]
        put(records, [2])
        records.settle()
        assert contents(records) == SAMPLES
    with Cache() as cache:
        assert not opened(cache, verify=True).missing_bytes()


def test_a_record_vouches_for_its_own_row_only(folder):
    with Cache() as cache:
        records = opened(cache)
        records.put(np.array([0, 1]), bytes(8), 4)
    change(folder / "index.bin", 0)  # row 0 is row 1 now
    with Cache() as cache:
        records = opened(cache, verify=True)
        assert records.missing().tolist() == [0, 2, 3, 4]  # of two records of a row the last counts
    change(folder / "index.bin", 0)  # the only record left, of row 1, says that it is of row 0
    with Cache() as cache:
        assert len(opened(cache, verify=True).missing()) == 5


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("size", [0, 503, 510, 1509])
def test_a_data_file_that_was_cut_keeps_the_rows_that_are_whole(folder, size, verify):
    with Cache() as cache:
        filled(cache)
    os.truncate(folder / "data.bin", size)
    with Cache() as cache:
        records = opened(cache, verify=verify)
        ends = np.cumsum([len(one) for one in SAMPLES])
        assert records.missing().tolist() == np.flatnonzero(ends > size).tolist()
        put(records, records.missing().tolist())
        records.settle()
        assert contents(records) == SAMPLES
    with Cache() as cache:
        assert contents(opened(cache, verify=True)) == SAMPLES


@pytest.mark.parametrize("size", [0, 23, 75])
def test_an_index_that_was_cut_keeps_the_rows_that_it_has(folder, size):
    with Cache() as cache:
        filled(cache)
    os.truncate(folder / "index.bin", size)
    with Cache() as cache:
        records = opened(cache)
        assert len(records.missing()) == 5 - size // RECORD.itemsize
        put(records, records.missing().tolist())
        records.settle()
        assert contents(records) == SAMPLES
    with Cache() as cache:
        assert contents(opened(cache, verify=True)) == SAMPLES


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("entry.json", ""),
        ("entry.json", "[]"),
        ("entry.json", "{}"),
        ("entry.json", '{"format": 3, "rows": 4}'),
        ("entry.json", '{"format": 2, "rows": 5}'),
        ("entry.json", "[" * 100_000),
        ("data.bin", None),
        ("index.bin", None),
    ],
)
def test_an_entry_that_makes_no_sense_is_made_anew(folder, name, text):
    with Cache() as cache:
        filled(cache)
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    told = []
    with Cache(told.append) as cache:
        records = opened(cache)
        assert len(records.missing()) == 5
        put(records, ROWS)
        records.settle()
        assert contents(records) == SAMPLES
    assert len(told) == 1
    assert "were damaged" in told[0]
    with Cache() as cache:
        assert not opened(cache).missing_bytes()


def test_random_bytes_in_place_of_the_index_are_no_records(folder):
    with Cache() as cache:
        filled(cache)
    (folder / "index.bin").write_bytes(np.random.default_rng(0).bytes(RECORD.itemsize * 100 + 3))
    with Cache() as cache:
        assert len(opened(cache, verify=True).missing()) == 5


# Workers, memory, room.


def read_all(records: DiskRecords, turns: int, found) -> None:
    for turn in range(turns):
        found.put((turn % 5, records.read(turn % 5).tobytes()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_without_disturbing_one_another(method):
    with Cache() as cache:
        records = filled(cache)
        context = multiprocessing.get_context(method)
        found = context.Queue()
        readers = [context.Process(target=read_all, args=(records, 50, found)) for _ in range(2)]
        for reader in readers:
            reader.start()
        for row, content in (found.get(timeout=30) for _ in range(100)):
            assert content == SAMPLES[row]
        for reader in readers:
            reader.join()
        assert contents(records) == SAMPLES
        assert not entries()[0].remove()  # the locks are still this process's


def test_the_memory_of_a_large_map_is_given_back(monkeypatch):
    monkeypatch.setattr(disk_records, "MAX_MAPPED", 64)
    with Cache() as cache:
        records = filled(cache)
        for _ in range(3):
            assert records.take(np.array([4, 0])).tobytes() == SAMPLES[4] + SAMPLES[0]
            assert records._touched == 0


def test_a_full_disk_is_a_reason(monkeypatch):
    with Cache() as cache:
        records = opened(cache)

        def full(handle, content, place):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(CacheRefused, match="No space left"):
                put(records, [0, 1])
        cache.discard(records)
        assert entries() == []


def test_what_is_larger_than_the_limit_is_refused(monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE_LIMIT", "999 B")
    with Cache() as cache, pytest.raises(CacheRefused, match=r"the samples take 1\.0 kB and the cache may hold"):
        opened(cache)
