"""Cores, memory, addresses, shared memory, open files, and what a logout does to a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from deeptune.doctor.finding import Finding, ok, warn
from deeptune.environment import cores
from deeptune.formatting import counted, size_text
from deeptune.memory import memory
from deeptune.runs.logout_check import logout_warning

SHARED_MEMORY = Path("/dev/shm")
MIN_SHARED_MEMORY = 1_000_000_000  # bytes: a few batches of large images for each worker
MIN_FREE_MEMORY = 4_000_000_000
MIN_OPEN_FILES = 1024
MIN_ADDRESS_SPACE = 32_000_000_000  # bytes: importing PyTorch maps 3 GB, and CUDA and the memory of a run come on top


def processor_and_memory() -> Iterator[Finding]:
    """Check cores and free memory."""
    here = memory()
    found = f"{counted(cores(), 'core')}, {size_text(here.free)} of {size_text(here.total)} memory free"
    if here.free < MIN_FREE_MEMORY:
        yield warn("memory", found, "Choose a small backbone, or end what takes the memory (`top`).")
    else:
        yield ok("memory", found)


def shared_memory() -> Iterator[Finding]:
    """Check /dev/shm, through which workers pass batches; Docker gives 64 MB."""
    if not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    found = f"{SHARED_MEMORY} has {size_text(free)} free"
    if free < MIN_SHARED_MEMORY:
        yield warn("shared memory", found, "Fewer workers decode images. `docker run --shm-size 8g` gives more.")
    else:
        yield ok("shared memory", found)


def open_files() -> Iterator[Finding]:
    """Check how many files a process may open."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < MIN_OPEN_FILES:
        yield warn("open files", f"at most {most:,}", "Raise it: `ulimit -n 4096`, or in /etc/security/limits.conf.")
    else:
        yield ok("open files", f"{limit:,}" + ("" if most == limit else ", more when needed"))


def address_space() -> Iterator[Finding]:
    """Check the limit of the addresses that a process may use; PyTorch maps 3 GB as it is imported."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE:
        remedy = "`ulimit -v unlimited` in the shell or job that starts runs; with less, PyTorch may not be imported."
        yield warn("address space", f"limited to {size_text(limit)}", remedy)


def logout() -> Iterator[Finding]:
    """Check whether the login manager would end a run at logout."""
    if os.name != "posix":
        return
    said = logout_warning()
    if said is not None:
        trouble, _, remedy = said.partition(". ")
        yield warn("logout", trouble, remedy)
    else:
        yield ok("logout", "runs survive a logout and a lost connection")
