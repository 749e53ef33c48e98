"""Where models of the tests are: the CPU, or what DEEPTUNE_TEST_DEVICE says (`cuda`, `cuda:1`, `mps`)."""

from __future__ import annotations

import os

import pytest

DEVICE = os.environ.get("DEEPTUNE_TEST_DEVICE", "cpu")

# Keys of `train`. Tolerances of tests are those of fp32 and of kernels that repeat, which a GPU would not choose.
ON_DEVICE = {"device": DEVICE} | ({} if DEVICE == "cpu" else {"precision": "fp32", "deterministic": True})

# Limits of address space, of which CUDA takes much whatever is computed.
cpu_only = pytest.mark.skipif(DEVICE != "cpu", reason="holds on a CPU only")
