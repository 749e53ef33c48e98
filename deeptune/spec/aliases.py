"""Names that people bring from other tools, and keys that are written without their section."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from deeptune.errors import did_you_mean

# What Hugging Face's Trainer and PEFT, timm, fastai, Lightning and the original DeepTune call a key.
OTHER_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("model", "model_name", "model_name_or_path", "model_version", "arch"), "backbone.name"),
    **dict.fromkeys(("num_epochs", "num_train_epochs", "max_epochs", "n_epochs"), "train.epochs"),
    **dict.fromkeys(("bs", "per_device_train_batch_size", "train_batch_size"), "train.batch_size"),
    **dict.fromkeys(("gradient_accumulation_steps", "accumulate_grad_batches"), "train.accumulation"),
    **dict.fromkeys(("lr", "base_lr", "lr_max"), "train.learning_rate"),
    **dict.fromkeys(("lr_scheduler", "lr_scheduler_type", "scheduler", "sched"), "train.schedule"),
    **dict.fromkeys(("warmup_steps", "warmup_ratio", "warmup_epochs"), "train.warmup"),
    **dict.fromkeys(("wd", "l2"), "train.weight_decay"),
    **dict.fromkeys(("max_grad_norm", "clip_grad", "gradient_clip_val"), "train.clip_norm"),
    **dict.fromkeys(("opt", "optim"), "train.optimizer"),
    **dict.fromkeys(("criterion", "loss_fn"), "train.loss"),
    **dict.fromkeys(("fp16", "bf16", "amp", "mixed_precision"), "train.precision"),
    **dict.fromkeys(("num_workers", "dataloader_num_workers"), "train.workers"),
    **dict.fromkeys(("gpu", "cuda", "accelerator"), "train.device"),
    **dict.fromkeys(("random_state", "random_seed"), "train.seed"),
    **dict.fromkeys(("augment", "augmentations", "aa"), "train.augmentation"),
    **dict.fromkeys(("save_steps", "save_every"), "train.checkpoint_every"),
    **dict.fromkeys(("early_stop", "early_stopping_patience"), "train.early_stopping.patience"),
    **dict.fromkeys(("metric_for_best_model", "monitor"), "train.early_stopping.metric"),
    **dict.fromkeys(("img_size", "input_size", "resolution"), "backbone.image_size"),
    **dict.fromkeys(("max_len", "max_seq_length", "max_seq_len"), "backbone.max_length"),
    **dict.fromkeys(("pool", "global_pool"), "backbone.pooling"),
    **dict.fromkeys(("embed_size", "embedding_dim", "embed_dim"), "head.embedding_size"),
    **dict.fromkeys(("num_layers", "added_layers"), "head.layers"),
    **dict.fromkeys(("r", "lora_r", "lora_rank"), "tuning.lora.rank"),
    "lora_alpha": "tuning.lora.alpha",
    "lora_dropout": "tuning.lora.dropout",
    "target_modules": "tuning.lora.targets",
    **dict.fromkeys(("mode", "strategy", "peft"), "tuning.method"),
    **dict.fromkeys(("dataset", "data_dir", "file", "train_file"), "data.path"),
    **dict.fromkeys(("label_column", "target", "target_column", "y"), "data.label"),
    **dict.fromkeys(("input_column", "image_column", "text_column", "x"), "data.input"),
    **dict.fromkeys(("groups", "group_column", "patient_id"), "data.group"),
}


def keys_meant(name: str, keys: Collection[str]) -> list[str]:
    """Return the dotted keys, of `keys`, that end in `name`, or that another tool calls so.

    None where no key is meant.
    """
    word = name.rpartition(".")[2].lower().replace("-", "_")
    ending = [key for key in keys if key.rpartition(".")[2] == word]
    return ending or [key for other, key in OTHER_NAMES.items() if other == word]


def nearest_keys(path: str, siblings: Collection[str], keys: Collection[str]) -> str:
    """Return `Did you mean 'train.epochs'?` for an unknown key among its `siblings`, or an empty string."""
    name = path.rpartition(".")[2]
    if slip := get_close_matches(name, siblings, n=1, cutoff=0.9):  # one letter of a few is wrong: surely this one
        return did_you_mean(name, slip)
    if meant := keys_meant(name, keys):
        return "Did you mean " + " or ".join(f"'{key}'" for key in meant) + "?"
    if near := did_you_mean(name, siblings):
        return near
    alike = get_close_matches(name, [key.rpartition(".")[2] for key in keys], n=1, cutoff=0.8)
    return nearest_keys(alike[0], (), keys) if alike else did_you_mean(path, keys)
