"""The Typer app, and the one edge where errors become a message and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from deeptune import __version__
from deeptune.cli import apply, catalog, run, spec
from deeptune.cli.console import fail, say
from deeptune.errors import DeepTuneError

# Typer brings its own copy of click or uses the installed one, by version: this is the class of either.
_UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    name="deeptune",
    help="Fine-tune pretrained image and text backbones on your own Parquet file.",
    epilog="Start with: deeptune run quickstart",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("predict")(apply.predict)
app.command("evaluate")(apply.evaluate)
app.command("embed")(apply.embed)
app.command("presets")(catalog.presets)
app.command("backbones")(catalog.backbones)
app.add_typer(spec.app, name="spec")


def _version(value: bool) -> None:
    if value:
        say(f"deeptune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit with its code (see the table in `docs/cli.md`)."""
    sys.exit(_run())


def _run() -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(prog_name="deeptune", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except DeepTuneError as error:
        fail(error.title, error.message, error.hint)
        return error.exit_code
    except _UsageError as error:
        error.show()
        return 2
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        say("stopped", stderr=True)
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away: nothing more to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
