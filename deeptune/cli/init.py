"""`deeptune init`: a first spec for a person's file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deeptune.cli import completion
from deeptune.environment import short_path, user_path
from deeptune.errors import SpecError, did_you_mean
from deeptune.show.console import say
from deeptune.spec.tasks import TASK_NAMES

if TYPE_CHECKING:
    from deeptune.data.first_spec import Proposal

MAX_LISTED = 12


def init(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Parquet file, glob or folder to learn from.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The spec to write.")] = Path("spec.toml"),
    input: Annotated[str | None, typer.Option(help="Column of images or texts.")] = None,
    label: Annotated[str | None, typer.Option(help="Column to predict.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of the patient or unit; '' for none.")] = None,
    task: Annotated[
        str | None, typer.Option(shell_complete=completion.words_of("task"), help=f"One of {TASK_NAMES}.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(shell_complete=completion.backbones, help="`deeptune backbones` lists them.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(shell_complete=completion.words_of("tuning.method"), help="partial, lora or full."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every proposal without a question.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a spec that exists.")] = False,
) -> None:
    """Write a first spec for your file, with comments.

    It fits the columns of the file and this machine. In a terminal it asks for each value that no option gives, with
    a proposal. Nothing is trained.
    """
    output = user_path(output, key="--output")
    if output.exists() and not force:
        raise SpecError(f"{short_path(output)} exists", hint="Choose another name with -o, or replace it with --force.")
    asks = not yes and sys.stdin.isatty() and sys.stdout.isatty()
    if data is None:
        if not asks:
            raise SpecError("no data named", hint="deeptune init scans.parquet")
        data = typer.prompt("Parquet file, glob or folder")
    options = {
        "data.input": input,
        "data.label": label,
        "data.group": group,
        "task": task,
        "backbone.name": backbone,
        "tuning.method": method,
    }
    _write(data, {key: value for key, value in options.items() if value is not None}, output, asks)


def _write(data: str, given: dict[str, str], output: Path, asks: bool) -> None:
    from deeptune.data.first_spec import commented_text, propose, spec_of
    from deeptune.data.inspect import survey
    from deeptune.runs.files import write_text

    first = propose(data, given)
    for note in first.notes:
        say(f"note: {note}")
    answers = first.values
    if asks:
        say(f"{data}: {first.rows:,} rows. Enter takes the proposal.")
        for key in [each.key for each in first.proposals]:
            if key not in given:
                answers |= {key: _ask(next(each for each in first.proposals if each.key == key))}
                first = propose(data, given | answers)  # a later proposal depends on an earlier answer
                given, answers = given | {key: answers[key]}, first.values
    spec = spec_of(first, answers)
    found = survey(spec)
    write_text(output, commented_text(first, answers))
    rows = ", ".join(f"{count:,} {split}" for split, count in found.rows.items())
    classes = f"; {len(found.classes)} classes" if found.classes else ""
    say(f"wrote {short_path(output)}: {rows}{classes}")
    for warning in found.warnings:
        say(f"warning: {warning}")
    say(f"next: deeptune run {short_path(output)} --dry-run, then deeptune run {short_path(output)}")


def _ask(proposal: Proposal) -> str:
    say(f"\n{proposal.question}: {proposal.reason}")
    if 0 < len(proposal.choices) <= MAX_LISTED:
        say("  one of: " + ", ".join(choice or "''" for choice in proposal.choices))
    while True:
        answer: str = typer.prompt(" ", default=proposal.value).strip().strip("'\"")
        if proposal.open or answer in proposal.choices or answer.startswith("["):
            return answer
        say(f"  there is no {answer!r}. {did_you_mean(answer, proposal.choices)}".rstrip())
