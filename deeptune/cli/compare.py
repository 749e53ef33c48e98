"""`deeptune compare`: the metrics of runs on the same test rows, with paired intervals and tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.cli import completion
from deeptune.cli.apply import DeviceOption, RootOption, refresh
from deeptune.cli.run_argument import named_run
from deeptune.errors import SpecError
from deeptune.formatting import counted
from deeptune.show.console import console, say, say_json

if TYPE_CHECKING:
    from deeptune.report.comparing import Comparison, Pair

TABLES = ("markdown", "latex")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            shell_complete=completion.runs,
            help="Two runs or more: directories, ids, prefixes or `latest`.",
        ),
    ],
    root: RootOption = Path("runs"),
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Compare them on this labelled file, in place of their own test rows."),
    ] = None,
    device: DeviceOption = "auto",
    table: Annotated[
        str | None, typer.Option(metavar="FORM", help="Print the table alone, as `markdown` or `latex`.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="How many of the rows that flipped are drawn.")] = 6,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print metrics, differences and flipped rows as JSON.")
    ] = False,
) -> None:
    """Compare runs on their common test rows.

    A difference is the value of the later run in the command less that of the earlier one. The last sentence on each
    pair says whether one is better, by the task's headline metric. Runs that were scored on other rows are refused,
    unless `--data` names a labelled file to score them all on.
    """
    if table is not None and table not in TABLES:
        raise SpecError(f"--table: expected `markdown` or `latex`, got {table!r}")
    if len(runs) < 2:
        raise SpecError(f"compare needs two runs or more, got {len(runs)}", hint="For example: deeptune compare A B")
    from deeptune.api.compare import compare_on, require_different
    from deeptune.report.comparing import compare_runs, decision_of, methods_of, sentence_of, table_of
    from deeptune.report.tables import latex_table, markdown_table

    directories = [named_run(run, root) for run in runs]
    require_different(directories)
    if data is None:
        found = compare_runs([run.path for run in directories])
    else:
        found = compare_on(directories, data, lambda text: say(text, stderr=True), device=device)
        for run in directories:
            refresh(run)
    if as_json:
        say_json(found.to_json())
        return
    for pair in found.pairs:
        if table is not None:
            write = markdown_table if table == "markdown" else latex_table
            say(write(*table_of(found, pair)))
            continue
        _print_pair(found, pair, rows, data)
        say(sentence_of(found, pair))
        say(decision_of(found, pair))
        say()
    if table is None:
        say(methods_of(found))


def _print_pair(found: Comparison, pair: Pair, rows: int, data: str | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from deeptune.report.comparing import table_of

    header, body = table_of(found, pair)
    a, b = _letters(pair)
    say(f"{a}  {found.ids[pair.first]}")
    say(f"{b}  {found.ids[pair.second]}")
    drawn = Table(title=f"{found.rows}; difference: {b} − {a}", title_justify="left")
    for at, name in enumerate(("Metric", a, b, *header[3:])):
        drawn.add_column(name, justify="left" if at == 0 else "right")
    for line in body:
        drawn.add_row(*(Text(cell) for cell in line))
    console().print(drawn)
    if found.runs[0].task.view not in ("classes", "labels"):
        return
    first = counted(pair.only_first, "row is", "rows are")
    say(f"{first} right only in {a}, {pair.only_second:,} only in {b}")
    if rows and pair.flipped:
        _draw_rows(found, pair, rows, data)


def _letters(pair: Pair) -> tuple[str, str]:
    """Name two runs by their places in the command: a run has one letter in all its pairs."""
    if max(pair.first, pair.second) >= len(LETTERS):
        return str(pair.first + 1), str(pair.second + 1)
    return LETTERS[pair.first], LETTERS[pair.second]


def _draw_rows(found: Comparison, pair: Pair, rows: int, data: str | None) -> None:
    """Draw the first of the rows that flipped, as many beside one another as fit."""
    from rich.table import Table
    from rich.text import Text

    from deeptune.data.run_samples import RunSamples
    from deeptune.report.comparing import row_text
    from deeptune.show.flips import WIDTH, sample
    from deeptune.show.picture import PictureGlyphs

    out = console()
    glyphs = PictureGlyphs(ascii=out.color_system is None)
    run = found.runs[0].files
    samples = RunSamples(run) if data is None else RunSamples.of_file(run, data)
    a, b = _letters(pair)
    cells: list[Any] = []
    widest = WIDTH
    for row in pair.flipped[:rows]:
        truth, (one, other) = row_text(found, pair, row)
        lines = sample(samples, row, glyphs)
        widest = max(widest, *(line.cell_len for line in lines))
        said = [Text(f"row {row:,}, truth {truth}", style="bold"), Text(f"{a} {one}   {b} {other}")]
        cells.append(Text("\n").join([*said, *lines]))
    across = max(1, out.width // (widest + 2))
    grid = Table.grid(padding=(0, 2, 1, 0))
    for start in range(0, len(cells), across):
        grid.add_row(*cells[start : start + across])
    out.print(grid)
    if len(pair.flipped) > rows:
        say(f"and {len(pair.flipped) - rows:,} more rows")
