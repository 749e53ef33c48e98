"""What other tools call a key."""

from __future__ import annotations

from deeptune.cli.command_table import COMMANDS, OTHER_WORDS
from deeptune.spec.aliases import OTHER_NAMES, keys_meant, nearest_keys
from deeptune.spec.toml import spec_keys


def test_each_name_means_a_key_and_is_none():
    keys = spec_keys()
    assert set(OTHER_NAMES.values()) <= set(keys)
    assert not set(OTHER_NAMES) & {part for key in keys for part in key.split(".")}


def test_each_word_means_a_command_and_is_none():
    commands = {name for name, _, _ in COMMANDS}
    assert {meant.split()[0] for meant in OTHER_WORDS.values()} <= commands
    assert not set(OTHER_WORDS) & commands


def test_a_key_is_found_by_its_last_part_then_by_its_other_names_then_by_likeness():
    keys = spec_keys()
    assert keys_meant("rank", keys) == ["tuning.lora.rank"]
    assert keys_meant("Learning-Rate", keys) == ["train.learning_rate"]
    assert keys_meant("num_train_epochs", keys) == ["train.epochs"]
    assert keys_meant("xyzzy", keys) == []
    assert nearest_keys("train.epoch", ["epochs", "loss"], keys) == "Did you mean 'epochs'?"
    assert nearest_keys("lerning_rate", ["name", "task"], keys).startswith("Did you mean 'train.learning_rate'")
    assert nearest_keys("data.splits", ["split", "path"], keys) == "Did you mean 'split'?"  # and not embed.splits
    assert nearest_keys("epoch", (), keys) == "Did you mean 'train.epochs'?"
