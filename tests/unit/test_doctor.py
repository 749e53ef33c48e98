"""The checkup of a machine: findings for planted troubles, and a report of a fault without names."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from deeptune.doctor import checkup, libraries, machine, network, storage, terminal
from deeptune.doctor.fault_report import anonymous, fault_report
from deeptune.doctor.finding import ok
from deeptune.runs import RunDirectory, write_json

CARD = ("NVIDIA RTX 4090", (20_000_000_000, 24_000_000_000))


def answer(**changes):
    found = {"version": "2.8", "cuda": "12.8", "gpus": [], "working": [], "why": "", "mps": False, "architectures": []}
    return found | changes


@pytest.mark.parametrize(
    ("told", "gpus", "driver", "level", "remedy"),
    [
        (answer(), [], None, "warn", "partial"),
        (answer(cuda=None), [CARD], ("550", "12.4"), "fail", "build of torch with CUDA"),
        (answer(), [CARD], ("550", "12.4"), "fail", "Update the driver (550, up to CUDA 12.4)"),
        (answer(), [CARD], ("570", "12.8"), "fail", "CUDA_VISIBLE_DEVICES"),
        (answer(gpus=[[CARD[0], 8, 9]], working=[True]), [CARD], ("570", "12.8"), "ok", ""),
        (answer(gpus=[[CARD[0], 8, 9]], working=[True]), [(CARD[0], (1, 10))], ("570", "12.8"), "warn", "nvidia-smi"),
        (
            answer(gpus=[[CARD[0], 12, 0]], working=[False], why="no kernel"),
            [CARD],
            None,
            "fail",
            "for this card",
        ),
        (answer(mps=True), [], None, "ok", ""),
    ],
)
def test_torch_is_compared_with_the_driver(told, gpus, driver, level, remedy):
    (found,) = libraries.gpu_findings(told, gpus, driver)
    assert found.level == level
    assert remedy in found.remedy


def test_a_library_outside_of_its_range_is_named(monkeypatch):
    monkeypatch.setattr(libraries, "requires", lambda _: ["numpy>=99", "absent-library", 'x; extra == "quickstart"'])
    found = next(each for each in libraries.versions() if each.name == "libraries")
    assert found.level == "fail"
    assert "numpy" in found.found
    assert ">=99 is needed" in found.found
    assert "absent-library is not installed" in found.found


def test_small_shared_memory_is_a_warning(monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=64_000_000))
    (found,) = machine.shared_memory()
    assert (found.level, "64.0 MB" in found.found, "--shm-size" in found.remedy) == ("warn", True, True)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such limit")
def test_a_limit_of_addresses_is_a_warning_and_none_is_not_mentioned(monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (3_000_000_000, resource.RLIM_INFINITY))
    (found,) = machine.address_space()
    assert (found.level, "3.0 GB" in found.found, "ulimit -v" in found.remedy) == ("warn", True, True)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not list(machine.address_space())


def test_a_folder_that_can_t_be_made_fails_with_the_variable_that_moves_it(tmp_path):
    (tmp_path / "file").write_text("")
    found = storage.folder_finding("cache", tmp_path / "file" / "cache", "Set DEEPTUNE_CACHE to another folder.")
    assert found.level == "fail"
    assert "DEEPTUNE_CACHE" in found.remedy
    assert storage.folder_finding("cache", tmp_path / "a" / "b", "").level in ("ok", "warn")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("variables", "level"),
    [({"TMUX": "x", "SSH_CONNECTION": "x"}, ["ok"]), ({"SSH_CONNECTION": "x"}, ["warn"]), ({}, [])],
)
def test_an_ssh_line_without_tmux_is_a_warning(monkeypatch, variables, level):
    for name in ("TMUX", "STY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert [found.level for found in terminal.session()] == level


def test_a_hub_that_is_forbidden_or_silent_is_a_warning(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(network, "TORCHVISION", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hub, torchvision = network.hubs()
    assert "HF_HUB_OFFLINE" in hub.found
    assert torchvision.level == "warn"
    assert "deeptune weights pack" in torchvision.remedy


def test_a_check_that_breaks_is_a_finding():
    def broken_check():
        raise ZeroDivisionError("x")
        yield

    (found,) = checkup((broken_check,))
    assert found.level == "warn"
    assert "ZeroDivisionError" in found.found


def test_a_report_names_no_person_and_no_folder():
    user, host = "schmidt-jones", socket.gethostname()
    text = anonymous(
        f"{Path.home()}/study/scans.parquet /data/mueller/patients.parquet mail a.b@clinic.org on {host} "
        "File '/opt/env/lib/python3.11/site-packages/torch/nn.py' https://huggingface.co/org/name"
    )
    for private in (str(Path.home()), "study", "mueller", "a.b@clinic.org", *([host] if len(host) > 2 else [])):
        assert private not in text
    for kept in ("scans.parquet", "patients.parquet", "site-packages/torch/nn.py", "https://huggingface.co/org/name"):
        assert kept in text
    assert user not in text


def test_the_name_of_the_user_is_replaced(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "schmidt")
    assert anonymous("run by schmidt, in blacksmith schmidts") == "run by USER, in blacksmith schmidts"


def test_the_report_of_a_failed_run_has_its_message_and_its_last_output(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    write_json(run.result, {"state": "failed", "error": {"title": "data error", "message": "row 3 is bad"}})
    run.console.write_text("\n".join(f"line {number}" for number in range(100)))
    text = fault_report([ok("torch", "2.8")], run)
    for part in ("torch: 2.8", "data error", "row 3 is bad", "line 99"):
        assert part in text
    assert "line 50" not in text
