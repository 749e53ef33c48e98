"""A checkpoint is a folder: one safetensors file per part and a manifest.

The parts are `model`, or `head` alone, with `adapter`, or with the `blocks` that learned. The manifest names each file
with its SHA-256, and says what the tensors belong to. No file is a pickle. A checkpoint to resume from has one more
part, `training`: the optimizer's state, the state of the random generators and everything else that decides the next
step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from deeptune.errors import CheckpointError
from deeptune.runs.directory import COPY_AGAIN
from deeptune.runs.files import file_sha256, read_json, storage_errors, sync, write_json

FORMAT = 1
MANIFEST = "manifest.json"
TRAINING = "training"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: every tensor by its name in the model, those of `training`, and the manifest's content."""

    state: dict[str, torch.Tensor]
    manifest: dict[str, Any]
    training: dict[str, torch.Tensor]


def save_checkpoint(
    folder: Path,
    state: dict[str, torch.Tensor],
    manifest: dict[str, Any],
    *,
    method: str,
    training: Mapping[str, torch.Tensor] | None = None,
    keep: Literal["newest", "oldest"] = "newest",
) -> None:
    """Replace the checkpoint in `folder` by one of `state`, and keep one earlier checkpoint as `previous(folder)`.

    That is the one just replaced (`newest`), or the one already there (`oldest`) until `drop_previous`. The new folder
    is complete and on the disk before it replaces the old one, so a crash, a full disk or a power cut at any moment
    leaves a complete checkpoint. Raises CheckpointError if it can't be written.
    """
    fresh = _beside(folder, "new")
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            files = {}
            parts = _parts(state, method) | ({TRAINING: dict(training)} if training is not None else {})
            for part, tensors in parts.items():
                file = fresh / f"{part}.safetensors"
                try:
                    save_file(tensors, file, metadata={"format": "pt"})
                except SafetensorError as error:
                    raise _refusal(error, file) from error
                sync(file)
                files[file.name] = {"sha256": file_sha256(file), "tensors": len(tensors)}
            write_json(fresh / MANIFEST, {"format": FORMAT, "method": method, **manifest, "files": files})
            sync(fresh)
            _take_place(fresh, folder, keep)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _take_place(fresh: Path, folder: Path, keep: str) -> None:
    former = previous(folder)
    if folder.exists():
        if keep == "oldest" and former.exists():
            _remove(folder)
        else:
            _remove(former)
            os.rename(folder, former)
    os.rename(fresh, folder)
    sync(folder.parent)


def previous(folder: Path) -> Path:
    """Return the folder of the checkpoint before the one in `folder`, which is kept while the run continues."""
    return _beside(folder, "previous")


def drop_previous(folder: Path) -> None:
    """Remove the checkpoint before the one in `folder`."""
    with storage_errors(folder):
        _remove(previous(folder))


def restore_previous(folder: Path) -> None:
    """Replace the checkpoint in `folder` by the one before it."""
    with storage_errors(folder):
        _remove(folder)
        os.rename(previous(folder), folder)
        sync(folder.parent)


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoint in `folder` and the one before it."""
    with storage_errors(folder):
        _remove(folder)
        _remove(previous(folder))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint. Raises CheckpointError if it is missing, damaged or of another format."""
    manifest = read_json(folder / MANIFEST)
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("files"), dict)
    ):
        raise CheckpointError(f"{folder / MANIFEST} is not of a format that this version reads ({FORMAT})")
    return manifest


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU and check every file against the manifest.

    Raises CheckpointError if a file is missing, damaged or not what the manifest says.
    """
    if not folder.exists() and previous(folder).exists():
        folder = previous(folder)  # a crash between the two renames of _take_place
    if not folder.exists():
        raise CheckpointError(f"there is no checkpoint {folder}", hint="The run stopped before it wrote one.")
    manifest = read_manifest(folder)
    state: dict[str, torch.Tensor] = {}
    training: dict[str, torch.Tensor] = {}
    for name, entry in manifest["files"].items():
        file = folder / Path(name).name
        try:
            digest = file_sha256(file)
            if digest != entry["sha256"]:
                raise CheckpointError(
                    f"{file} is damaged: its SHA-256 is {digest[:12]}…, the manifest says {entry['sha256'][:12]}…",
                    hint=COPY_AGAIN,
                )
            (training if file.stem == TRAINING else state).update(load_file(file, device="cpu"))
        except FileNotFoundError as error:
            raise CheckpointError(f"{file} is missing, though the manifest names it", hint=COPY_AGAIN) from error
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}", hint=COPY_AGAIN) from error
    return Checkpoint(state, manifest, training)


def _parts(state: dict[str, torch.Tensor], method: str) -> dict[str, dict[str, torch.Tensor]]:
    tensors = {name: value.detach().to("cpu").contiguous() for name, value in state.items()}
    if method == "full":
        # Tensors that share memory (tied weights) are stored one by one: safetensors refuses aliases.
        return {"model": {name: value.clone() for name, value in tensors.items()}}
    head = {name: value for name, value in tensors.items() if name.startswith("head.")}
    rest = {name: value for name, value in tensors.items() if name not in head}
    return {"head": head, "adapter" if method == "lora" else "blocks": rest} if rest else {"head": head}


def _refusal(error: SafetensorError, file: Path) -> OSError:
    """Turn safetensors' error into the OSError behind it, which it passes on as text with the number at the end."""
    code = str(error).rpartition("(os error ")[2].partition(")")[0]
    return OSError(int(code), os.strerror(int(code)), str(file)) if code.isdigit() else OSError(str(error))


def _remove(folder: Path) -> None:
    """Remove a checkpoint so that no part of it can ever pass for a complete one."""
    if folder.exists():
        gone = _beside(folder, "gone")
        shutil.rmtree(gone, ignore_errors=True)
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.parent / f".{folder.name.removeprefix('.')}.{suffix}"
