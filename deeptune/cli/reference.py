"""Generate the reference of the command line: `python -m deeptune.cli.reference docs/cli.md`.

It is made from each command's own parameters, not from the help that Typer formats, so it does not change with
Typer's version.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

EXIT_CODES = (
    (0, "done"),
    (1, "a defect of DeepTune: please report it, with what was printed; or a line of `deeptune doctor` fails"),
    (2, "the arguments or the run spec are not valid"),
    (3, "the data cannot be read or does not fit the task; of `deeptune audit`: an error was found"),
    (4, "a backbone or its weights cannot be found, loaded or adapted"),
    (5, "training started and could not continue, or the run crashed"),
    (6, "a checkpoint or another output could not be written, read or trusted"),
    (130, "stopped, and can be resumed; or Ctrl+C ended the command itself"),
)


def reference() -> str:
    """Generate the text of `docs/cli.md`."""
    import typer

    from deeptune.cli.app import app
    from deeptune.spec.fields import field_rows

    parts = [
        "# The command line",
        "<!-- Made by `python -m deeptune.cli.reference docs/cli.md`: change the commands, then make it again. -->",
        "Every command answers `--help`. Errors go to stderr as one message: what is wrong, where, and what to do.",
    ]
    for path, command in _commands("deeptune", typer.main.get_command(app)):
        parts += command_parts(path, command)
    parts += ["## Exit codes", table_text(("code", "meaning"), [(f"{code}", meaning) for code, meaning in EXIT_CODES])]
    parts += [
        "## Keys of a run spec",
        "In a TOML file as `[section]` and `key = value`, on the command line as `--set section.key=value`. "
        "`deeptune spec schema` writes the same as a JSON Schema.",
        table_text(
            ("key", "default", "meaning"),
            [(f"`{key}`", _default(default), meaning) for key, default, meaning in field_rows()],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from _commands(f"{path} {name}", below)
    else:
        yield path, command


def command_parts(path: str, command: Any) -> list[str]:
    """Describe a command as the paragraphs of its section: title, usage, help and the table of its options."""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    words = [_name(argument) if argument.required else f"[{_name(argument)}]" for argument in arguments]
    parts = [f"## {path}", f"`{' '.join([path, *words, '[OPTIONS]'])}`", inspect.cleandoc(command.help or "")]
    rows = [(f"`{_name(argument)}`", "", argument.help or "") for argument in arguments]
    for option in options:
        value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
        names = ", ".join([*sorted(option.opts, key=len, reverse=True), *option.secondary_opts])
        default = "required" if option.required else "" if option.is_flag else _default(option.default)
        rows.append((f"`{names}{value}`", default, option.help or ""))
    return [*parts, table_text(("", "default", "meaning"), rows)]


def _name(argument: Any) -> str:
    return (argument.metavar or argument.name.upper()).replace("[", "").replace("]", "")


def _default(value: Any) -> str:
    return "" if value in (None, "") else f"`{value}`" if value != "(required)" else "required"


def table_text(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Format a table in Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m deeptune.cli.reference FILE")
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
