"""Chooses device and precision, with the reason in words."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from deeptune.engine.out_of_memory import keep_freed_memory
from deeptune.environment import cores
from deeptune.errors import SpecError
from deeptune.nvml import NvidiaGpu, freest, gpu_of, use_one_numbering
from deeptune.spec.defaults import CPU_TOKENS
from deeptune.spec.train_spec import known_device

HEAD_ROWS = 512  # stored features that pass a head at once, at least


@dataclass(frozen=True)
class Compute:
    """A device, the dtype of autocast (None: plain fp32) and why they were chosen."""

    device: torch.device
    autocast_dtype: torch.dtype | None
    reason: str

    @property
    def precision(self) -> str:
        return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.autocast_dtype]

    def autocast(self) -> AbstractContextManager[object]:
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    @property
    def reads_late(self) -> bool:
        """Whether what a step computed is read later than the step: to wait for a GPU is to leave it idle."""
        return self.device.type == "cuda" and self.autocast_dtype is not torch.float16

    def scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaling, which fp16 needs; it does nothing for the others."""
        return torch.amp.GradScaler(self.device.type, enabled=self.autocast_dtype is torch.float16)


def tokens_at_once(device: torch.device) -> int | None:
    """Return how many tokens of texts pass together, whatever the number of rows; None for no limit.

    The activations of more leave a CPU's caches: 32 texts of 512 tokens train 1.6 times faster, and pass forward 1.2
    times faster, 4 at a time (MiniLM, 2 cores); those of 64 tokens are as fast whole.
    """
    return CPU_TOKENS if device.type == "cpu" else None


def rows_at_once(device: torch.device) -> int:
    """Count the rows that pass a frozen backbone together: always the same, as the last bits depend on it."""
    # On a CPU the activations of more rows leave its caches: 64 are a tenth slower for resnet18 and MiniLM, 256 a third
    return 32 if device.type == "cpu" else 256


def rows_scored_at_once(device: torch.device, batch_size: int) -> int:
    """Count the rows that are scored or embedded together, of a model that is trained on `batch_size` of them.

    A GPU takes up to four times as many, as a pass without gradients keeps no activations.
    """
    return batch_size if device.type == "cpu" else max(batch_size, min(rows_at_once(device), 4 * batch_size))


def choose_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """Return the device and precision of a run. Raises SpecError when the one asked for is not there.

    A CUDA GPU is from then on the current one of this thread, which kernels and questions without a device are for.
    """
    use_one_numbering()
    _use_allowed_cores()
    chosen, reason = _device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        _multiply_in_full_fp32()
    if precision == "auto":
        dtype, why = _best_dtype(chosen)
        return Compute(chosen, dtype, f"{reason}; {why}")
    asked = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if asked is torch.float16 and chosen.type == "cpu":
        raise SpecError("train.precision: 'fp16' needs a GPU; on the CPU use 'fp32' (or 'bf16' on CPUs that have it)")
    return Compute(chosen, asked, f"{reason}; {precision} as asked")


def _use_allowed_cores() -> None:
    """Start no more threads than a container may use cores: PyTorch sees those of its machine.

    Threads beyond a quota wait for each other while the kernel holds some of them back.
    """
    if "OMP_NUM_THREADS" not in os.environ and cores() < torch.get_num_threads():
        torch.set_num_threads(cores())


def _multiply_in_full_fp32() -> None:
    """Let "fp32" mean float32 in convolutions and in matrix products.

    PyTorch rounds the inputs of convolutions, but not those of products, to the 10 bits of TF32. Who wants speed takes
    bf16.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def choose_kernels(device: torch.device, *, deterministic: bool = False) -> None:
    """Let this process compute with kernels that repeat bit for bit, or with those that cuDNN finds fastest.

    On a CPU all kernels repeat. On a GPU the backward passes of the fastest ones may not. Where PyTorch has no kernel
    that repeats, it warns. See https://docs.pytorch.org/docs/stable/notes/randomness.html.
    """
    repeat = deterministic or device.type == "cpu"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS first computes
    # As use_deterministic_algorithms does, which also imports the compiler, for seconds.
    torch.set_deterministic_debug_mode("warn" if repeat else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # 4% of a pass
    torch.backends.cudnn.deterministic = repeat
    torch.backends.cudnn.benchmark = not repeat  # images of a run have one size


def device_identity(device: torch.device) -> str | dict[str, Any]:
    """Identify a device by whatever changes the last bits of its results: the kind of card and the CUDA version.

    Of other devices it is the type.
    """
    if device.type != "cuda":
        return device.type
    card = torch.cuda.get_device_properties(device.index or 0)
    return {
        "type": "cuda",
        "card": torch.cuda.get_device_name(device.index or 0),
        "capability": [card.major, card.minor],
        "multiprocessors": card.multi_processor_count,
        "cuda": torch.version.cuda or torch.version.hip,
        "cudnn": _cudnn_version(),
        "deterministic": torch.backends.cudnn.deterministic,
        "tf32": [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32],
    }


def _cudnn_version() -> int | str | None:
    try:
        return torch.backends.cudnn.version()
    except RuntimeError:  # a card that is too old for it, or a cuDNN that does not fit PyTorch
        return "unusable"


def driver_gpu(device: torch.device) -> NvidiaGpu | None:
    """Return a CUDA GPU as its driver knows it, found by its UUID.

    None for any other device, or without the driver's help.
    """
    if device.type != "cuda":
        return None
    number = device.index or 0
    uuid = getattr(torch.cuda.get_device_properties(number), "uuid", None)
    return None if uuid is None else gpu_of(number, str(uuid))


def _device(device: str) -> tuple[torch.device, str]:
    if device == "auto":
        if torch.cuda.is_available():
            return _freest_gpu()
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple GPU found"
        return torch.device("cpu"), "no GPU found, using the CPU"
    try:
        chosen = torch.device(known_device(device))
    except ValueError as error:
        raise SpecError(f"train.device: {error}, got {device!r}", hint="Leave it out for the fastest one.") from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise SpecError(
                f"train.device: {device!r} was asked for, but PyTorch sees no CUDA GPU",
                hint="Check `nvidia-smi` and that this PyTorch is a CUDA build, or set train.device = 'auto'.",
            )
        index = chosen.index or 0
        if index >= torch.cuda.device_count():
            raise SpecError(
                f"train.device: there is no {device!r}; this machine has {torch.cuda.device_count()} GPU(s)",
                hint="Set train.device = 'auto', or a GPU from cuda:0 on.",
            )
        chosen = torch.device("cuda", index)
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise SpecError(
            "train.device: 'mps' was asked for, but PyTorch sees no Apple GPU",
            hint="Set train.device = 'auto' or 'cpu'.",
        )
    return chosen, f"{chosen} as asked"


def _freest_gpu() -> tuple[torch.device, str]:
    """Return the CUDA GPU with the most free memory."""
    count = torch.cuda.device_count()
    if count == 1:
        return torch.device("cuda", 0), f"CUDA GPU found: {torch.cuda.get_device_name(0)}"
    free, total = zip(*(_free_and_total(torch.device("cuda", number)) for number in range(count)), strict=True)
    chosen = freest(free)
    return torch.device("cuda", chosen), (
        f"of {count} CUDA GPUs cuda:{chosen} ({torch.cuda.get_device_name(chosen)}) has the most free memory, "
        f"{free[chosen] / 2**30:.1f} of {total[chosen] / 2**30:.1f} GiB"
    )


def _free_and_total(device: torch.device) -> tuple[int, int]:
    """Return bytes of a GPU, from its driver.

    Asking CUDA would use a few hundred megabytes on each GPU.
    """
    gpu = driver_gpu(device)
    memory = None if gpu is None else gpu.memory
    return memory or torch.cuda.mem_get_info(device)


def _best_dtype(device: torch.device) -> tuple[torch.dtype | None, str]:
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        if native:
            return torch.bfloat16, "bf16, which this GPU computes natively"
        return torch.float16, "fp16 with loss scaling, since this GPU has no bf16"
    return None, "fp32"


def has_bf16_units() -> bool:
    """Check whether the CPU multiplies bf16 itself: without, it is slower than fp32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def memory_in_use(device: torch.device) -> dict[str, float]:
    """Return GiB in use: of this process, and of the device when it is a GPU."""
    used = {"process_gib": psutil.Process().memory_info().rss / 2**30}
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        used |= {"device_gib": (total - free) / 2**30, "device_total_gib": total / 2**30}
    return {name: round(value, 3) for name, value in used.items()}


def seed_everything(seed: int) -> None:
    """Seed every generator that training draws from."""
    import random

    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
