"""Checkpoints: safetensors and a manifest, written whole or not at all."""

from deeptune.checkpoint.store import Checkpoint, load_checkpoint, save_checkpoint

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]
