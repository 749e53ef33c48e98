"""Python, the libraries that DeepTune needs, and what torch makes of the machine's GPUs."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from deeptune import __version__
from deeptune.doctor.finding import Finding, fail, ok, warn
from deeptune.formatting import size_text
from deeptune.nvml import driver_version, visible_gpus

SHOWN = ("torch", "torchvision", "transformers", "timm", "peft")
TORCH_SECONDS = 120  # importing torch from a slow network disk takes that long
_ASK_TORCH = """
import json, torch
try:
    count, why = torch.cuda.device_count() if torch.cuda.is_available() else 0, ""
except Exception as error:
    count, why = 0, str(error)
gpus, working = [], []
for number in range(count):
    properties = torch.cuda.get_device_properties(number)
    gpus.append([properties.name, properties.major, properties.minor])
    try:
        one = torch.ones(8, device=f"cuda:{number}")
        working.append(float((one @ one).cpu()) == 8.0)
    except Exception as error:
        working.append(False)
        why = why or str(error).splitlines()[0]
mps = getattr(torch.backends, "mps", None)
print(json.dumps({
    "version": torch.__version__, "cuda": torch.version.cuda or torch.version.hip, "gpus": gpus, "working": working,
    "why": why, "mps": bool(mps and mps.is_available()), "architectures": torch.cuda.get_arch_list(),
}))
"""


def versions() -> Iterator[Finding]:
    """Check Python, and each library against the range that DeepTune declares."""
    system = f"{platform.system()} {platform.machine()}"
    yield ok("deeptune", f"{__version__}, Python {platform.python_version()}, {system}")
    if platform.system() == "Windows":
        yield warn(
            "system",
            "detached runs, locks and the terminal interface need a POSIX system",
            "Use WSL 2 (`wsl --install`), where everything works.",
        )
    problems = list(_unmet())
    found = ", ".join(f"{name} {_version(name) or 'missing'}" for name in SHOWN)
    if problems:
        yield fail("libraries", "; ".join(problems), "pip install --upgrade deeptune")
    else:
        yield ok("libraries", found)


def _unmet() -> Iterator[str]:
    from packaging.requirements import Requirement

    try:
        declared = requires("deeptune") or []
    except PackageNotFoundError:  # run from a checkout
        return
    for text in declared:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        if found is None:
            yield f"{requirement.name} is not installed ({requirement})"
        elif not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found} is installed, {requirement} is needed"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def torch_and_gpus() -> Iterator[Finding]:
    """Ask torch, in a process of its own, which GPUs it can compute on, and compare with the driver's."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=TORCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        yield fail(
            "torch", f"did not start within {TORCH_SECONDS} s", "Look at the disk or the GPU driver it waits for."
        )
        return
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        yield fail("torch", f"cannot be imported: {last[0]}", "Install it anew: https://pytorch.org/get-started")
        return
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    built = f"built for CUDA {answer['cuda']}" if answer["cuda"] else "built without CUDA"
    yield ok("torch", f"{answer['version']}, {built}")
    yield from gpu_findings(answer, [(gpu.name or "a GPU", gpu.memory) for gpu in visible_gpus()], driver_version())


def gpu_findings(
    answer: dict[str, Any], driver_gpus: list[tuple[str, tuple[int, int] | None]], driver: tuple[str, str] | None
) -> Iterator[Finding]:
    """Compare what torch found with the driver's list. `driver` is its version and the newest CUDA that it takes."""
    if answer["mps"]:
        yield ok("gpu", "Apple GPU (mps)")
    elif not driver_gpus and not answer["gpus"]:
        yield warn("gpu", "none found: runs use the CPU", 'Small backbones and `tuning.method = "partial"` suit a CPU.')
    elif not answer["gpus"]:
        if answer["cuda"] is None:
            remedy = "Install a build of torch with CUDA: https://pytorch.org/get-started"
        elif driver is not None and _number(driver[1]) < _number(answer["cuda"]):
            remedy = f"Update the driver ({driver[0]}, up to CUDA {driver[1]}), or install torch for that CUDA."
        else:
            remedy = "Look at CUDA_VISIBLE_DEVICES and at `nvidia-smi`."
        why = f" ({answer['why']})" if answer["why"] else ""
        yield fail("gpu", f"the driver knows {driver_gpus[0][0]}, but torch cannot use it{why}", remedy)
    for number, (name, *_) in enumerate(answer["gpus"]):
        if not answer["working"][number]:
            built = " ".join(answer["architectures"])
            yield fail(
                f"cuda:{number}",
                f"{name}: a product of two vectors fails: {answer['why']}",
                f"This torch is built for {built}: install one that is built for this card.",
            )
            continue
        memory = driver_gpus[number][1] if number < len(driver_gpus) else None
        room = f", {size_text(memory[0])} of {size_text(memory[1])} free" if memory else ""
        if memory and memory[0] < 0.5 * memory[1]:
            yield warn(f"cuda:{number}", f"{name}{room}", "`nvidia-smi` shows whose process takes the rest.")
        else:
            yield ok(f"cuda:{number}", f"{name}{room}")


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
