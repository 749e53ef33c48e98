"""Checkpoints: safetensors and a manifest, written whole or not at all."""

from deeptune.checkpoint.store import (
    Checkpoint,
    drop_previous,
    load_checkpoint,
    previous,
    read_manifest,
    remove_checkpoints,
    restore_previous,
    save_checkpoint,
)

__all__ = [
    "Checkpoint",
    "drop_previous",
    "load_checkpoint",
    "previous",
    "read_manifest",
    "remove_checkpoints",
    "restore_previous",
    "save_checkpoint",
]
