"""Which device and arithmetic a run takes. The cards are played at the boundary of torch.cuda and of the driver."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from drivers import Card, driver

from deeptune.engine.device import choose_compute, choose_kernels, device_identity, driver_gpu, rows_scored_at_once

NEW, OLD = 8, 7  # compute capabilities with and without bf16


@pytest.fixture
def machine(monkeypatch):
    """`machine([(capability, free GiB), ...])` has such CUDA GPUs, of which torch's current one is the first.

    Torch numbers them the other way round than the driver does, as CUDA's own order may.
    """
    current = [0]

    def make(cards):
        count = len(cards)
        by_bus = [Card(f"GPU-{number}", cards[number][1]) for number in reversed(range(count))]
        monkeypatch.setitem(sys.modules, "pynvml", driver(*by_bus))

        @contextlib.contextmanager
        def within(device):
            before, current[0] = current[0], torch.device(device).index
            yield
            current[0] = before

        played = {
            "is_available": lambda: True,
            "device_count": lambda: count,
            "get_device_name": lambda number: f"card {number}",
            "get_device_properties": lambda number: SimpleNamespace(
                uuid=str(number), major=cards[number][0], minor=5, multi_processor_count=10
            ),
            "get_device_capability": lambda number: (cards[number][0], 5),
            "set_device": lambda device: current.__setitem__(0, torch.device(device).index),
            "device": within,
            "is_bf16_supported": lambda including_emulation=True: cards[current[0]][0] >= NEW,
        }
        for name, value in played.items():
            monkeypatch.setattr(torch.cuda, name, value)
        return current

    return make


def test_auto_takes_the_gpu_with_the_most_free_memory_and_says_why(machine) -> None:
    current = machine([(NEW, 4), (NEW, 30), (NEW, 20)])
    compute = choose_compute()
    assert compute.device == torch.device("cuda", 1)
    assert "of 3 CUDA GPUs cuda:1 (card 1) has the most free memory, 30.0 of 80.0 GiB" in compute.reason
    assert current == [1]  # what torch does without a device is on the chosen one too


@pytest.mark.parametrize(("device", "precision"), [("cuda:0", "fp16"), ("cuda:1", "bf16")])
def test_bf16_is_asked_of_the_chosen_gpu(machine, device, precision) -> None:
    machine([(OLD, 10), (NEW, 5)])
    assert choose_compute(device).precision == precision


def test_the_driver_is_asked_about_the_run_s_own_gpu(machine) -> None:
    machine([(NEW, 4), (NEW, 30), (NEW, 20)])
    gpu = driver_gpu(torch.device("cuda", 2))
    assert gpu is not None
    assert gpu.memory == (20 << 30, 80 << 30)
    assert gpu.number == 2


@pytest.mark.parametrize(("before", "after"), [(None, "PCI_BUS_ID"), ("FASTEST_FIRST", "FASTEST_FIRST")])
def test_cuda_numbers_gpus_as_the_driver_does(before, after) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_DEVICE_ORDER"}
    environment |= {} if before is None else {"CUDA_DEVICE_ORDER": before}
    script = (
        "import os, sys\nfrom deeptune.environment import prepare_process\nprepare_process()\n"
        "assert 'torch' not in sys.modules\nprint(os.environ['CUDA_DEVICE_ORDER'])"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == after


@pytest.fixture
def tf32_put_back():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures("tf32_put_back")
def test_fp32_is_float32_in_convolutions_and_in_products(machine) -> None:
    machine([(NEW, 10)])
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    choose_compute("cuda", "fp32")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.usefixtures("tf32_put_back")
def test_what_one_card_computed_is_not_taken_for_another_s(machine, monkeypatch) -> None:
    machine([(OLD, 10), (NEW, 10), (NEW, 10)])
    first, second = (device_identity(torch.device("cuda", number)) for number in (0, 1))
    assert first != second
    assert first == device_identity(torch.device("cuda", 0))
    monkeypatch.setattr(torch.version, "cuda", "99.0")
    assert first != (other := device_identity(torch.device("cuda", 0)))
    torch.backends.cudnn.allow_tf32 = not torch.backends.cudnn.allow_tf32
    assert other != device_identity(torch.device("cuda", 0))
    assert device_identity(torch.device("cpu")) == "cpu"


@pytest.fixture
def kernels_put_back():
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, torch.get_deterministic_debug_mode()
    yield
    cudnn.deterministic, cudnn.benchmark = before[:2]
    torch.set_deterministic_debug_mode(before[2])


@pytest.mark.usefixtures("kernels_put_back")
@pytest.mark.parametrize(
    ("kind", "deterministic", "repeat"),
    [("cuda", False, False), ("cuda", True, True), ("cpu", False, True), ("mps", False, False)],
)
def test_kernels_repeat_on_a_cpu_and_where_asked(kind, deterministic, repeat, machine, monkeypatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    choose_kernels(torch.device(kind), deterministic=deterministic)
    assert torch.backends.cudnn.deterministic is repeat
    assert torch.backends.cudnn.benchmark is not repeat
    assert torch.are_deterministic_algorithms_enabled() is repeat
    assert torch.is_deterministic_algorithms_warn_only_enabled() is repeat  # an operation that has none still runs
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is deterministic  # cuBLAS repeats only with it


@pytest.mark.usefixtures("kernels_put_back")
def test_features_of_kernels_that_repeat_are_not_taken_for_others(machine) -> None:
    machine([(NEW, 10)])
    found = []
    for deterministic in (True, False):
        choose_kernels(torch.device("cuda"), deterministic=deterministic)
        found.append(device_identity(torch.device("cuda", 0)))
    assert found[0] != found[1]


def test_a_card_that_cudnn_does_not_take_has_an_identity(machine, monkeypatch) -> None:
    def refuse():
        raise RuntimeError("cuDNN is not compatible with devices with SM < 7.5")

    machine([(OLD, 10)])
    monkeypatch.setattr(torch.backends.cudnn, "version", refuse)
    identity = device_identity(torch.device("cuda", 0))
    assert isinstance(identity, dict)
    assert identity["cudnn"] == "unusable"


@pytest.mark.parametrize(
    ("kind", "batch_size", "rows"),
    [("cpu", 8, 8), ("cpu", 64, 64), ("cuda", 8, 32), ("cuda", 64, 256), ("cuda", 512, 512)],
)
def test_a_gpu_scores_more_rows_at_once_than_it_trains_on(kind, batch_size, rows) -> None:
    assert rows_scored_at_once(torch.device(kind), batch_size) == rows
