"""The Typer app, and the one place where errors become a message and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer

from deeptune import __version__
from deeptune.cli.command_table import LazyGroup
from deeptune.cli.completion import join_words
from deeptune.cli.usage_hints import extra_hint, option_hint
from deeptune.environment import prepare_process, require_current_folder
from deeptune.errors import CheckpointError, DeepTuneError, RunStopped, SpecError
from deeptune.show.console import fail, forget, say

# Typer brings its own copy of click or uses the installed one, by version: this is the class of either.
_UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

# What the system says when a disk, a quota or a file's limit is full, wherever it says so.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}

# Modules of Python that Windows lacks.
_POSIX = {"fcntl", "grp", "pwd", "resource", "termios"}

app = typer.Typer(
    name="deeptune",
    cls=LazyGroup,
    help="Fine-tune pretrained image and text backbones on your own Parquet file.",
    epilog="Start with: deeptune run quickstart",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        say(f"deeptune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _wants_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    require_current_folder()


def main() -> None:
    """Run the command line and exit with its code (see the table in `docs/cli.md`)."""
    sys.exit(run_command())


def run_command(app: typer.Typer = app, name: str = "deeptune") -> int:
    """Run the command that the arguments of this process name. Returns the exit code."""
    prepare_process()
    join_words()
    command = typer.main.get_command(app)
    try:
        result = command.main(prog_name=name, standalone_mode=False)
        if result == RunStopped.exit_code:  # what Typer makes of Ctrl+C
            say("stopped", stderr=True)
        return result if isinstance(result, int) else 0
    except DeepTuneError as error:
        fail(error.title, error.message, error.hint)
        return error.exit_code
    except _UsageError as error:
        return _usage(error)
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        say("stopped", stderr=True)
        return RunStopped.exit_code
    except (BrokenPipeError, SystemExit):
        if "_DEEPTUNE_COMPLETE" in os.environ:
            raise  # a shell asked for completions and has them
        # Click and Rich exit with 1, our code for a defect, when the reader of a pipe went away.
        forget(sys.stdout)
        return 0
    except ModuleNotFoundError as error:
        if error.name not in _POSIX:
            raise
        fail(
            SpecError.title,
            f"this needs Python's module {error.name}, which Windows does not have",
            "Use WSL 2 (`wsl --install`), where everything works.",
        )
        return SpecError.exit_code
    except OSError as error:
        if error.errno not in _FULL:
            raise
        forget(sys.stdout)
        where = error.filename or "the output"
        fail(
            CheckpointError.title, f"cannot write {where}: {error.strerror}", "Free some space or choose another place."
        )
        return CheckpointError.exit_code


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is None or not message:  # no message: the help of a group called without a command
        error.show()
        return 2
    if option := getattr(error, "option_name", ""):
        hint = option_hint(option, context)
        message = (
            f"No such option: {option}" if hint else message
        )  # without the options that Click finds to look like it
    else:
        hint = extra_hint(context) if message.startswith("Got unexpected extra argument") else ""
    fail("usage error", message, f"{hint} `{context.command_path} --help` lists what it takes.".strip())
    return 2
