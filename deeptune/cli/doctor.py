"""`deeptune doctor`: checks this machine for problems that could stop a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from deeptune.show.console import console, safe, say, say_json

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run whose end goes into the report; with --report.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="A bug report to paste, without names of people or machines.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Check this machine for problems that could stop a run.

    Python and libraries, torch against the GPU driver, memory, disk, shared memory, open files, what a logout does,
    locale, terminal, tmux, weights and network, each with its remedy. Nothing is changed. Exits with 1 if a check
    fails, and with 0 otherwise.
    """
    from deeptune.doctor import checkup
    from deeptune.errors import SpecError

    if run is not None and not report:
        raise SpecError("RUN is for the report of a fault", hint=f"deeptune doctor --report {run}")
    if report:
        from deeptune.doctor.fault_report import fault_report
        from deeptune.runs import find_run

        say(fault_report(checkup(), find_run(run) if run is not None else None).rstrip())
        return
    findings = []
    out = console()
    for each in checkup():
        findings.append(each)
        if not as_json:
            from rich.text import Text

            line = Text.assemble(
                (f"{each.level:<5}", _STYLES[each.level]), (f"{each.name}: ", "bold"), safe(each.found)
            )
            out.print(line, soft_wrap=True)
            if each.remedy:
                out.print(Text(f"      → {safe(each.remedy)}", style="dim"), soft_wrap=True)
    if as_json:
        say_json({"findings": [asdict(each) for each in findings]}, indent=2)
    if any(each.level == "fail" for each in findings):
        raise typer.Exit(1)
