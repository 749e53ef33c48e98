"""Memory that runs out: how each device's libraries say so, and what is given back then."""

from __future__ import annotations

import ctypes
import functools
import gc
import re
import sys
from contextlib import suppress

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)

# Only PyTorch's own allocator of a GPU raises a class of its own. The driver (AcceleratorError), Apple's allocator, the
# CPU's allocators, oneDNN, cuBLAS and cuDNN raise RuntimeErrors. cuDNN without memory for its workspace finds no
# engine or algorithm.
_WORDS = re.compile(
    r"(CUDA|HIP) error: out of memory|(CUDA|HIP|XPU|MPS backend) out of memory|CUDA ran out of memory|"
    r"CU[A-Z]+_STATUS_ALLOC_FAILED|CUDNN_STATUS_\w*ALLOCATION_FAILED|"
    r"unable to find an engine|Unable to find a valid cuDNN algorithm|"
    r"can't allocate memory|not enough memory|Cannot allocate memory|failed to allocate|"
    r"could not create a (primitive$|memory)"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether memory ran out, of a GPU or of the computer."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _WORDS.search(str(error).strip()) is not None


def release_memory() -> None:
    """Give what PyTorch and the C library hold unused back to the device and the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    give_freed_memory_back()


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the next step.

    glibc gives large blocks back at once, so that each step has every page of its activations mapped and zeroed anew:
    without that a step of ResNet-18 (96 px) took 0.74 of the time, one of MiniLM 0.93 (2 cores). Elsewhere this does
    nothing.
    """
    _libc("mallopt", _MMAP_THRESHOLD, 32 << 20)  # the most that glibc itself raises it to
    _libc("mallopt", _TRIM_THRESHOLD, 2**31 - 1)


def give_freed_memory_back() -> None:
    """Let glibc return freed memory again, as it does by default."""
    _libc("mallopt", _MMAP_THRESHOLD, 128 * 1024)
    _libc("mallopt", _TRIM_THRESHOLD, 128 * 1024)
    _libc("malloc_trim", 0)


def _libc(name: str, *arguments: int) -> None:
    """Call a function of glibc's, where there is one."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), name)(*arguments)
