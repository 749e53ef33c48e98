"""`deeptune-tui`: the command that starts the interface."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from deeptune import __version__
from deeptune.environment import require_current_folder
from tui.options import GRAPHICS, Options, over_ssh, speaks_utf8

FRAMES_OVER_SSH = "12"  # frames a second


def _version(value: bool) -> None:
    if value:
        typer.echo(f"deeptune {__version__}")
        raise typer.Exit


def start(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|SPEC]", help="A run to watch, or a preset or spec file to start a new run from."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the runs.")] = Path("runs"),
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters only.")] = False,
    no_mouse: Annotated[bool, typer.Option("--no-mouse", help="Leave the mouse to the terminal.")] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Look only: nothing can be started, stopped or deleted.")
    ] = False,
    theme: Annotated[
        str | None,
        typer.Option(
            help="deeptune-dark, deeptune-light, terminal (its own colours), or one of Textual's. "
            "Without it the one that was chosen last.",
        ),
    ] = None,
    no_bell: Annotated[
        bool, typer.Option("--no-bell", help="No bell, notification or title when a run that is watched ends.")
    ] = False,
    graphics: Annotated[
        str, typer.Option(help="How images are drawn: auto (half blocks where there are colours), or ascii.")
    ] = "auto",
    _wants_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make run specs in a wizard, start runs, and watch them live, over any line."""
    require_current_folder()
    ssh = over_ssh()
    if ssh:
        os.environ.setdefault("TEXTUAL_FPS", FRAMES_OVER_SSH)  # read once, when Textual is imported
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    from deeptune.errors import SpecError, did_you_mean
    from deeptune.show.announce import wants_bell
    from tui.app import DeepTuneApp
    from tui.keymap import load_keymap
    from tui.settings import load_settings
    from tui.themes import theme_names

    if theme is None:
        chosen = load_settings().get("theme")
        theme = chosen if chosen in theme_names() else Options.theme
    for option, value, known in (("--theme", theme, theme_names()), ("--graphics", graphics, GRAPHICS)):
        if value not in known:
            near = did_you_mean(value, known)
            raise SpecError(f"{option}: there is no {value!r}. {near}".rstrip(), hint=f"Known: {', '.join(known)}.")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SpecError(
            "deeptune-tui needs a terminal",
            hint="In a script use `deeptune run`; to look at a run without a terminal, `deeptune status` and `logs`.",
        )
    options = Options(
        root=output,
        ascii=ascii_only or not speaks_utf8(),
        mouse=not no_mouse,
        read_only=read_only,
        ssh=ssh,
        color=not os.environ.get("NO_COLOR"),
        graphics=graphics,
        theme=theme,
        console=os.environ.get("TERM") == "linux",
        bell=not no_bell and wants_bell() and load_settings().get("bell", True) is not False,
    )
    app = DeepTuneApp(options, opens=_opens(what, output), keymap=load_keymap())
    from tui.hangup import lifeline

    with lifeline(app):
        app.run(mouse=options.mouse)
    if app.return_code:
        raise typer.Exit(app.return_code)


def _opens(what: str | None, root: Path) -> tuple[str, Path] | None:
    """Return what to open first: ("run", folder) or ("spec", file). Raises SpecError if it is neither."""
    if what is None:
        return None
    from deeptune.errors import SpecError
    from deeptune.runs import find_run
    from deeptune.spec.presets import find_spec_file

    try:
        return "run", find_run(what, root).path
    except SpecError as no_run:
        try:
            return "spec", find_spec_file(what)
        except SpecError as no_spec:
            raise SpecError(f"{no_run.message}\n{no_spec.message}", hint=no_run.hint) from no_spec


app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
app.command()(start)


def main() -> None:
    """Run the command and exit with its code: 0, or 2 for arguments that can't be used."""
    from deeptune.cli.app import run_command

    sys.exit(run_command(app, "deeptune-tui"))
