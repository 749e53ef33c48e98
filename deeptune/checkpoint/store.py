"""A checkpoint is a folder: one safetensors file per part (`model`, or `head` and `adapter`) and a manifest.

The manifest names each file with its SHA-256, and says what the tensors belong to. No pickle.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from deeptune.errors import CheckpointError
from deeptune.runs.files import read_json, storage_errors, sync, write_json

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What was stored: every tensor by its name in the model, and the manifest's content."""

    state: dict[str, torch.Tensor]
    manifest: dict[str, Any]


def save_checkpoint(folder: Path, state: dict[str, torch.Tensor], manifest: dict[str, Any], *, method: str) -> None:
    """Replace `folder` by a checkpoint of `state`.

    The new folder is complete and on the disk before it takes the old one's place, so that a crash or a
    full disk leaves the old checkpoint. Raises CheckpointError when it cannot be written.
    """
    fresh, old = _beside(folder, "new"), _beside(folder, "old")
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            files = {}
            for part, tensors in _parts(state, method).items():
                file = fresh / f"{part}.safetensors"
                try:
                    save_file(tensors, file, metadata={"format": "pt"})
                except SafetensorError as error:
                    raise OSError(str(error)) from error
                sync(file)
                files[file.name] = {"sha256": _sha256(file), "tensors": len(tensors)}
            write_json(fresh / MANIFEST, {"format": FORMAT, "method": method, **manifest, "files": files})
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                os.rename(folder, old)
            os.rename(fresh, folder)
            sync(folder.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU and check every file against the manifest.

    Raises CheckpointError when something is missing, damaged or not what the manifest says.
    """
    if not folder.exists() and _beside(folder, "old").exists():
        folder = _beside(folder, "old")  # a crash between the two renames of save_checkpoint
    if not folder.exists():
        raise CheckpointError(f"there is no checkpoint {folder}", hint="The run stopped before it wrote one.")
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{folder / MANIFEST} is not of a format that this version reads ({FORMAT})")
    state: dict[str, torch.Tensor] = {}
    for name, entry in manifest["files"].items():
        file = folder / Path(name).name
        try:
            digest = _sha256(file)
            if digest != entry["sha256"]:
                raise CheckpointError(
                    f"{file} is damaged: its SHA-256 is {digest[:12]}…, the manifest says {entry['sha256'][:12]}…"
                )
            state |= load_file(file, device="cpu")
        except FileNotFoundError as error:
            raise CheckpointError(f"{file} is missing, though the manifest names it") from error
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
    return Checkpoint(state, manifest)


def _parts(state: dict[str, torch.Tensor], method: str) -> dict[str, dict[str, torch.Tensor]]:
    tensors = {name: value.detach().to("cpu").contiguous() for name, value in state.items()}
    if method == "full":
        # Tensors that share memory (tied weights) are stored one by one: safetensors refuses aliases.
        return {"model": {name: value.clone() for name, value in tensors.items()}}
    head = {name: value for name, value in tensors.items() if name.startswith("head.")}
    adapter = {name: value for name, value in tensors.items() if name not in head}
    return {"head": head, "adapter": adapter} if adapter else {"head": head}


def _beside(folder: Path, suffix: str) -> Path:
    return folder.parent / f".{folder.name}.{suffix}"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
