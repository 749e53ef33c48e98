"""`deeptune explain`: explains predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.cli.apply import JsonProgressOption, RootOption, RunArgument, shown_progress
from deeptune.cli.run_argument import named_run
from deeptune.environment import short_path, user_path
from deeptune.errors import SpecError
from deeptune.show.console import console, safe, say, say_json

if TYPE_CHECKING:
    from deeptune.explain.explanations import Explained, Explanation

MAX_ROWS = 200
PICTURE_WIDTH, PICTURE_HEIGHT = 64, 16  # cells


def explain(
    run: RunArgument,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE", help="Other data than the run's own test rows.")
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Rows, such as `3,17,40-45`; by default the worst errors.")] = None,
    worst: Annotated[int, typer.Option(min=1, max=MAX_ROWS, help="How many of the worst errors.")] = 8,
    of: Annotated[str | None, typer.Option("--of", metavar="CLASS", help="Explain this class.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="By default `explanations` in the run.")
    ] = None,
    runs: RootOption = Path("runs"),
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`, `cuda:N` or `mps`.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no pictures.")] = False,
    json_progress: JsonProgressOption = False,
) -> None:
    """Explain a run's predictions, and test the explanations.

    Images get a map (HiResCAM), texts a score for each token (integrated gradients), an image with a text both. Each
    set is compared with random orders and with a model of shuffled weights by insertion and deletion, and says where it
    is no better. Without --data the worst errors of the test rows are explained, and the run's report shows them.
    """
    from deeptune.api.explain import ExplainOptions, explain_rows, parse_rows, worst_rows

    directory = named_run(run, runs)
    if data is not None and rows is None:
        raise SpecError("--data needs --rows: which of its rows?", hint="For example --rows 0-7")
    if data is not None and output is None:
        raise SpecError("--data needs --output: a folder for the explanations", hint="For example -o explanations")
    chosen = parse_rows(rows, MAX_ROWS) if rows is not None else worst_rows(directory, worst)
    folder = user_path(output, key="--output") if output is not None else directory.explanations
    with shown_progress("explaining", quiet or as_json, json_progress) as progress:
        explained = explain_rows(directory, chosen, folder, data=data, options=ExplainOptions(of, device, progress))
    if as_json:
        from deeptune.runs.files import read_json

        say_json(read_json(folder / "explanations.json"), indent=2)
        return
    if not quiet and not json_progress:
        for each in explained.explanations:
            _draw(each)
    _tell(explained, folder, in_report=output is None)


def _draw(each: Explanation) -> None:
    from rich.text import Text

    out = console()
    said = f"row {each.row:,} ({each.kind}), predicted {safe(each.prediction)}"
    out.print(f"\n{said}; gain over random orders {each.test.gain:.2f}")
    if each.map is not None:
        from deeptune.explain.drawing import beside
        from deeptune.show.picture import PictureGlyphs, drawn

        glyphs = PictureGlyphs(ascii=out.color_system is None)
        for line in drawn(beside(each), PICTURE_WIDTH, PICTURE_HEIGHT, glyphs):
            text = Text()
            for piece, ink, ground in line:
                text.append(piece, style=_style(ink, ground))
            out.print(text)
        return
    assert each.tokens is not None
    assert each.scores is not None
    largest = max(float(abs(each.scores).max()), 1e-12)
    text = Text()
    for token, score in zip(each.tokens, each.scores / largest, strict=True):
        text.append(safe(token), style=_token_style(float(score)))
    out.print(text)


def _style(ink: Any, ground: Any) -> str:
    parts = [f"rgb({ink[0]},{ink[1]},{ink[2]})"] if ink else []
    return " ".join(parts + ([f"on rgb({ground[0]},{ground[1]},{ground[2]})"] if ground else []))


def _token_style(score: float) -> str:
    """Choose blue for support of the prediction and red for the contrary; weak tokens are left as they are."""
    from deeptune.show.explanations import STRONG, WEAK

    if abs(score) < WEAK:
        return ""
    strong = "bold " if abs(score) > STRONG else ""
    return f"{strong}{'blue' if score > 0 else 'red'}"


def _tell(explained: Explained, folder: Path, *, in_report: bool) -> None:
    say()
    for note in explained.notes:
        say(note, stderr=True)
    for row, reason in explained.left_out.items():
        say(f"row {row:,} has no explanation: {reason}")
    say(explained.text)
    say(f"wrote {short_path(folder)}" + (", and into the run's report.html" if in_report else ""))
