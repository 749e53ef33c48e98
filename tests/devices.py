"""Where models of the tests are: the CPU, or what DEEPTUNE_TEST_DEVICE says (`cuda`, `cuda:1`, `mps`, `simulated`).

`simulated` is a CUDA GPU whose tensors compute on the CPU: see `simulation/simulated_gpu.py`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ASKED = os.environ.get("DEEPTUNE_TEST_DEVICE", "cpu")
SIMULATED = ASKED == "simulated"
DEVICE = "cuda" if SIMULATED else ASKED

# Keys of `train`. Tolerances of tests are those of fp32 and of kernels that repeat, which a GPU would not choose.
ON_DEVICE = {"device": DEVICE} | ({} if DEVICE == "cpu" else {"precision": "fp32", "deterministic": True})

# Limits of address space, of which CUDA takes much whatever is computed.
cpu_only = pytest.mark.skipif(DEVICE != "cpu", reason="holds on a CPU only")
gpu_only = pytest.mark.skipif(DEVICE == "cpu", reason="for DEEPTUNE_TEST_DEVICE=cuda or =simulated")


def simulate_gpu() -> None:
    """Give this process, and each that it starts, a simulated GPU."""
    folder = str(Path(__file__).parent / "simulation")
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    import torch  # noqa: F401  (patched once it is whole)
    from simulated_gpu import install

    install()
