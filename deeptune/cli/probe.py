"""`deeptune probe`: which backbone fits a person's own rows."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeptune.cli import completion
from deeptune.cli.apply import MIN_INTERVAL, JsonProgressOption
from deeptune.errors import RunStopped, SpecError
from deeptune.show.console import console, safe, say, say_json

if TYPE_CHECKING:
    from rich.table import Table

    from deeptune.engine.probe_passes import ProbeLog
    from deeptune.probing.ranking import RankedBackbone, Ranking


def probe(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="[SPEC]",
            shell_complete=completion.presets,
            help="A spec file or preset; its backbone may be left out.",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="FILE", help="Parquet file, glob or folder.")] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            "-b",
            metavar="NAME",
            shell_complete=completion.backbones,
            help="Rank this one, and no others; repeat it. NAME=random: random weights.",
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Short for --set task=….")] = None,
    input: Annotated[list[str] | None, typer.Option(help="The input column; twice for pairs of texts.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="The label column; repeat it for several.")] = None,
    group: Annotated[str | None, typer.Option(help="Column whose equal values stay in one fold.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            shell_complete=completion.settings,
            metavar="KEY=VALUE",
            help="Override a key of the spec; the value is TOML.",
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(metavar="TIME", help="Time, such as `90 s`, `5min` or `1h`; where it is short, fewer rows pass."),
    ] = "5min",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="SPEC", help="Write the spec that is advised to this file.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Governs split and folds, as in the run.")] = None,
    device: Annotated[str | None, typer.Option(help="`auto`, `cpu`, `cuda`, `cuda:N` or `mps`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ranking as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    json_progress: JsonProgressOption = False,
) -> None:
    """Rank the backbones on this machine for your own data.

    Rows pass each frozen backbone once, into the cache that runs read. Heads are scored by cross-validation on the rows
    of train and val; test takes no part.
    """
    from deeptune.api.probe import budget_seconds, rank, shown
    from deeptune.probing.candidates import ANY_BACKBONE
    from deeptune.spec import load_spec
    from deeptune.spec.presets import find_spec_file

    if spec is None and data is None:
        raise SpecError("give --data FILE or a SPEC", hint="For example: deeptune probe --data scans.parquet")
    asked: dict[str, Any] = {
        "task": task, "data.input": input or None, "data.label": label or None, "data.group": group,
        "train.seed": seed, "train.device": device,
    }  # fmt: skip
    values = load_spec(
        None if spec is None else find_spec_file(spec),
        list(overrides or []),
        data=data,
        changes={key: value for key, value in asked.items() if value is not None},
        defaults={"backbone.name": ANY_BACKBONE},
    )
    seconds = budget_seconds(budget)
    with nullcontext(_json_log()) if json_progress else shown(not quiet) as log:
        ranking = rank(values, backbone or None, seconds, log)
    if output is not None and ranking.spec:
        from deeptune.runs.files import write_text

        write_text(output, _commented(ranking))
    if as_json:
        say_json(ranking.to_json(), indent=2)
    else:
        _print(ranking, output)
    if ranking.state == "stopped":
        raise typer.Exit(RunStopped.exit_code)


def _json_log() -> ProbeLog:
    """Report as lines of JSON on stderr: what is new, and now and then how far it is."""
    from deeptune.engine.probe_passes import ProbeLog

    doing, written = "", 0.0

    def show(what: str, done: int, total: int) -> None:
        nonlocal doing, written
        now = time.monotonic()
        if what != doing or now - written >= MIN_INTERVAL or done == total:
            doing, written = what, now
            say(json.dumps({"progress": {"what": what, "done": done, "total": total}}), stderr=True)

    return ProbeLog(lambda text: say(text, stderr=True), show)


def _commented(ranking: Ranking) -> str:
    """Return the advised spec, with what it is and why as comments."""
    assert ranking.advice is not None
    lines = [f"Advised by `deeptune probe` for {ranking.data}.", *ranking.advice.why]
    return "".join(f"# {safe(line)}\n" for line in lines) + "\n" + ranking.spec


def _print(ranking: Ranking, output: Path | None) -> None:
    out = console()
    out.print(ranking_table(ranking))
    for one in ranking.backbones:
        if one.reason:
            say(f"{one.name}: {one.reason}")
    say()
    for note in ranking.notes:
        say(f"note: {note}")
    from deeptune.probing.ranking import ENDED

    say(
        f"{ranking.scored_rows:,} rows of train and val, {ranking.folds} folds, {ranking.seconds:.0f} s"
        f"{ENDED[ranking.state]}; {ranking.test_rows:,} rows of test took no part"
    )
    if ranking.advice is None:
        return
    say(f"\nlikely to pay: {ranking.advice.backbone} with tuning.method = '{ranking.advice.method}'")
    for sentence in ranking.advice.why:
        say(f"  {sentence}")
    if output is not None:
        say(f"\nwrote {output}: deeptune run {output}")
    else:
        say(f"\n{ranking.spec.rstrip()}")


def ranking_table(ranking: Ranking) -> Table:
    """Build the table of a ranking, the best backbone first, a constant prediction last."""
    from rich.table import Table
    from rich.text import Text

    from deeptune.report.tables import TITLES, value_text

    metric = TITLES.get(ranking.metric, "score")
    table = Table(
        title=Text(f"{metric} of heads on frozen features", style="bold"),
        title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold",
    )  # fmt: skip
    table.add_column("backbone", overflow="fold")
    for name in ("linear", "95% interval", "trees", "width", "seconds", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in ranking.backbones:
        table.add_row(*_cells(one, ranking.metric))
    if ranking.baseline is not None:
        table.add_row(*(Text(text, style="dim") for text in ("constant", value_text(ranking.metric, ranking.baseline))))
    return table


def _cells(one: RankedBackbone, metric: str) -> list[str]:
    from deeptune.formatting import size_text
    from deeptune.report.tables import interval_text, value_text

    linear, trees = one.linear, one.boosting
    return [
        safe(one.name) + ("" if one.pretrained else " (random weights)"),
        "" if linear is None else value_text(metric, linear.score),
        "" if linear is None else interval_text(metric, linear.interval),
        "" if trees is None else value_text(metric, trees.score),
        "" if one.width is None else f"{one.width:,}",
        "" if one.seconds is None else f"{one.seconds:.1f}",
        "" if one.memory is None else size_text(one.memory),
    ]
