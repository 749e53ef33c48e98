"""The cores that a process may use within control groups, whose files are written as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from control_group_files import belongs_to

from deeptune import environment
from deeptune.control_groups import cpu_quota
from deeptune.engine.device import choose_compute


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def quota(folder: Path, version: int, quota: int | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(f"{quota} 100000\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")


def test_the_least_quota_of_the_groups_of_version_2_counts(root):
    belongs_to(root, "0::/pod/container")
    quota(root / "sys/fs/cgroup/pod/container", 2, "max")
    assert cpu_quota(root) is None
    quota(root / "sys/fs/cgroup/pod", 2, 250_000)
    assert cpu_quota(root) == 2.5
    quota(root / "sys/fs/cgroup/pod/container", 2, 50_000)
    assert cpu_quota(root) == 0.5


def test_a_quota_of_version_1_counts(root):
    belongs_to(root, "12:cpuacct,cpu:/docker/abc", "4:memory:/elsewhere", "0::/")
    quota(root / "sys/fs/cgroup/cpu", 1, -1)
    assert cpu_quota(root) is None
    quota(root / "sys/fs/cgroup/cpu", 1, 400_000)  # in a container the mount is the group
    assert cpu_quota(root) == 4


@pytest.mark.parametrize("damaged", ["", "max", "x y", "100 0", "\0"])
def test_files_that_say_something_else_limit_nothing(root, damaged):
    belongs_to(root, "0::/")
    assert cpu_quota(root) is None
    quota(root / "sys/fs/cgroup", 2, "max")
    (root / "sys/fs/cgroup/cpu.max").write_text(damaged)
    assert cpu_quota(root) is None


def test_cores_are_those_that_the_process_runs_on_or_fewer_by_a_quota(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)), raising=False)
    for allowed, expected in ((None, 8), (16.0, 8), (2.5, 3), (0.25, 1)):
        monkeypatch.setattr(environment, "cpu_quota", lambda allowed=allowed: allowed)
        assert environment.cores() == expected


def test_pytorch_starts_no_more_threads_than_there_are_cores_unless_a_person_says_how_many(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr("deeptune.engine.device.cores", lambda: 1)
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        choose_compute("cpu")
        assert torch.get_num_threads() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        choose_compute("cpu")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
