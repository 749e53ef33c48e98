"""The memory of a process within control groups, whose files are written as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from control_group_files import belongs_to

from deeptune.memory import memory

GB = 10**9


def group(folder: Path, version: int, limit: int | str, used: int, inactive: int = 0, active: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    total = "total_" if version == 1 else ""
    stat = f"anon 5\n{total}inactive_file {inactive}\n{total}active_file {active}\nslab 7\n"
    (folder / "memory.stat").write_text(stat)


@pytest.fixture
def root(tmp_path, monkeypatch):
    class Machine:
        total, available = 64 * GB, 40 * GB

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Machine)
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def test_without_a_group_it_is_that_of_the_machine(root):
    assert memory(root) == memory(root / "nowhere")
    assert (memory(root).total, memory(root).free) == (64 * GB, 40 * GB)


def test_a_limit_of_version_2_counts_and_copies_of_files_make_room(root):
    belongs_to(root, "0::/job_7/step")
    group(root / "sys/fs/cgroup/job_7/step", 2, 8 * GB, 6 * GB, inactive=GB, active=2 * GB)
    assert (memory(root).total, memory(root).free) == (8 * GB, 5 * GB)


def test_the_limit_of_a_parent_counts_too(root):
    belongs_to(root, "0::/job_7/step/task")
    group(root / "sys/fs/cgroup/job_7/step/task", 2, "max", GB)
    group(root / "sys/fs/cgroup/job_7", 2, 16 * GB, 13 * GB)
    assert (memory(root).total, memory(root).free) == (16 * GB, 3 * GB)


def test_a_limit_of_version_1_counts(root):
    belongs_to(root, "12:cpu,cpuacct:/docker/abc", "4:hugetlb,memory:/slurm/uid_1/job_7", "0::/")
    group(root / "sys/fs/cgroup/memory/slurm/uid_1/job_7", 1, 4 * GB, GB, inactive=GB // 2)
    group(root / "sys/fs/cgroup/memory", 1, 0x7FFFFFFFFFFFF000, 30 * GB)
    assert (memory(root).total, memory(root).free) == (4 * GB, int(3.5 * GB))


def test_in_a_container_the_mount_is_the_group_where_the_path_is_the_hosts(root):
    belongs_to(root, "0::/docker/0123abcd")
    group(root / "sys/fs/cgroup", 2, 2 * GB, GB)
    assert (memory(root).total, memory(root).free) == (2 * GB, GB)


def test_what_a_group_leaves_is_no_more_than_the_machine_has_and_never_below_0(root):
    belongs_to(root, "0::/job")
    group(root / "sys/fs/cgroup/job", 2, 50 * GB, GB)
    assert memory(root).free == 40 * GB
    group(root / "sys/fs/cgroup/job", 2, 2 * GB, 3 * GB)
    assert memory(root).free == 0


@pytest.mark.parametrize("damaged", ["", "0", "0::", "x:memory:/a", "0::/job", "\0\1"])
def test_files_that_say_something_else_change_nothing(root, damaged):
    belongs_to(root, damaged)
    group(root / "sys/fs/cgroup/job", 2, "many", GB)
    assert (memory(root).total, memory(root).free) == (64 * GB, 40 * GB)


def test_this_machine_has_memory():
    found = memory()
    assert 0 < found.free <= found.total <= psutil.virtual_memory().total
