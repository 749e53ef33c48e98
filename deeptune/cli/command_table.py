"""The table of commands, and a group that imports the module of a command only when it runs it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, cast

import typer
from typer.core import TyperGroup

# (name, "module:function" or "module:app" for a group, the first line of its help)
COMMANDS = (
    ("run", "run:run", "Fine-tune a backbone as a spec describes."),
    ("runs", "runs:runs", "List the runs, the newest first."),
    ("attach", "runs:attach", "Watch a run from its beginning."),
    ("status", "runs:status", "Show what a run is doing."),
    ("logs", "runs:logs", "Print a run's log."),
    ("stop", "control:stop", "Stop a run at its next step, with a checkpoint to resume from."),
    ("resume", "control:resume", "Resume a run from its last checkpoint."),
    ("import", "importing:import_", "Import data into one Parquet file."),
    ("split", "split:split", "Split a file, and keep the splits."),
    ("probe", "probe:probe", "Rank the backbones on this machine for your own data."),
    ("predict", "apply:predict", "Predict a file's rows with a finished run."),
    ("evaluate", "apply:evaluate", "Score a finished run on a labelled file."),
    ("embed", "apply:embed", "Write an embedding for every row of a file."),
    ("compare", "compare:compare", "Compare runs on their common test rows."),
    ("explain", "explain:explain", "Explain a run's predictions, and test the explanations."),
    ("report", "report:report", "Print where a run's report is, or serve it to a browser."),
    ("audit", "audit:audit", "Audit data before anything learns from it."),
    ("presets", "catalog:presets", "List the presets, or print one."),
    ("backbones", "catalog:backbones", "List the backbones."),
    ("init", "init:init", "Write a first spec for your file, with comments."),
    ("doctor", "doctor:doctor", "Check this machine for problems that could stop a run."),
    ("spec", "spec:app", "Explain and check run specs."),
    ("cache", "cache:app", "List and clear the cache of samples and features."),
    ("weights", "weights:app", "List, fetch and carry pretrained weights."),
)


# Words that other tools have for a command.
OTHER_WORDS = {
    **dict.fromkeys(("train", "fit", "finetune", "fine-tune", "tune", "start", "launch"), "run"),
    **dict.fromkeys(("test", "eval", "score"), "evaluate"),
    **dict.fromkeys(("infer", "inference", "apply", "classify"), "predict"),
    **dict.fromkeys(("embeddings", "encode", "extract", "features"), "embed"),
    **dict.fromkeys(("list", "ls", "ps", "jobs"), "runs"),
    **dict.fromkeys(("watch", "monitor", "tail"), "attach"),
    **dict.fromkeys(("kill", "cancel", "abort"), "stop"),
    **dict.fromkeys(("continue", "restart"), "resume"),
    **dict.fromkeys(("convert", "ingest", "prepare"), "import"),
    **dict.fromkeys(("check", "inspect", "validate"), "audit"),
    **dict.fromkeys(("new", "create", "config"), "init"),
    **dict.fromkeys(("models", "catalog"), "backbones"),
    "download": "weights fetch",
    "diff": "compare",
    "log": "logs",
    "schema": "spec schema",
    "clean": "cache clear",
}


class LazyCommands(Mapping[str, Any]):
    """The commands by name, in the order of `COMMANDS`; looking one up imports it."""

    _places: ClassVar = {name: place for name, place, _ in COMMANDS}

    def __getitem__(self, name: str) -> Any:
        return _command(name, self._places[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class LazyGroup(TyperGroup):
    """A group of the commands in `COMMANDS`. Its own help imports none of them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast(Any, LazyCommands())  # read only: Typer adds none to a group of this class

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names. The error for another word says what was probably meant."""
        word = args[0]
        if word not in self.commands and (meant := _meant(word)):
            ctx.fail(f"No such command '{word}'. Did you mean `{ctx.command_path} {meant}`?")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (the signature is Click's)
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, _, summary in COMMANDS])


def _meant(word: str) -> str:
    """Return the command that was meant by a word: that of another tool, or a spec without `run`."""
    from deeptune.spec.presets import SUFFIX, preset_files

    if word.lower() in OTHER_WORDS:
        return OTHER_WORDS[word.lower()]
    return f"run {word}" if word.endswith(SUFFIX) or word in preset_files() else ""


@cache
def _command(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(importlib.import_module(f"deeptune.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name)(found)
        command = typer.main.get_command(alone)
    command.name = name
    return command
