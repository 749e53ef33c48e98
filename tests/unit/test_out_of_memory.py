"""What libraries say when memory runs out, and what the run does then."""

from __future__ import annotations

import pytest
import torch

from deeptune.data.loading.loader import Batch
from deeptune.engine import out_of_memory
from deeptune.engine.micro_batch import MicroBatcher, each_micro_batch
from deeptune.engine.out_of_memory import is_out_of_memory, release_memory
from deeptune.engine.run_metadata import error_to_report
from deeptune.errors import TrainingError

RAN_OUT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    torch.AcceleratorError("HIP error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUSOLVER_STATUS_ALLOC_FAILED when calling `cusolverDnCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB, other allocations: 1.00 GB, max allowed: 18 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]
ANOTHER_FAULT = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
    ValueError("out of memory"),
]


def name(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:40]}"


@pytest.mark.parametrize("error", RAN_OUT, ids=name)
def test_memory_that_ran_out_is_recognised(error) -> None:
    assert is_out_of_memory(error)
    assert isinstance(error_to_report(error), TrainingError)


@pytest.mark.parametrize("error", ANOTHER_FAULT, ids=name)
def test_another_fault_is_not_taken_for_memory(error) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", RAN_OUT, ids=name)
def test_a_pass_that_ran_out_is_done_again_in_halves(error) -> None:
    def forward(batch: Batch) -> int:
        if len(batch) > 2:
            raise error
        return len(batch)

    whole = Batch({"features": torch.zeros(8, 3)}, None, torch.arange(8))
    assert [count for _, count in each_micro_batch([whole], forward, MicroBatcher())] == [2, 2, 2, 2]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_what_the_device_holds_unused_is_given_back(monkeypatch, device) -> None:
    """The allocators of devices that are not here are replaced; which of them is called is the rule."""
    freed = []
    for name, where in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
        monkeypatch.setattr(where, "is_available", lambda name=name: name == device)
        monkeypatch.setattr(getattr(torch, name), "empty_cache", lambda name=name: freed.append(name))
    monkeypatch.setattr(out_of_memory, "give_freed_memory_back", lambda: freed.append("system"))
    release_memory()
    assert freed == [device, "system"]
