"""`deeptune report`: the path of a run's report, and a small server for a browser on another machine."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from deeptune.cli.apply import RootOption, RunArgument, refresh
from deeptune.cli.run_argument import named_run
from deeptune.environment import short_path
from deeptune.errors import CheckpointError
from deeptune.show.console import say


def report(
    run: RunArgument,
    root: RootOption = Path("runs"),
    serve: Annotated[bool, typer.Option("--serve", help="Serve it to a browser, on the loopback address.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="With --serve: the port; 0 takes any free one.")
    ] = 0,
    samples: Annotated[
        bool | None,
        typer.Option(
            "--samples/--no-samples",
            help="Write the report again, with or without the worst and least certain test samples drawn.",
        ),
    ] = None,
) -> None:
    """Print where a run's report is, or serve it to a browser.

    It holds no sample of the data unless `--samples`, `report.samples` in the spec, or `deeptune explain` put some
    there.

    The server listens on the loopback address only and serves only the report. To reach it from another machine, use
    the `ssh -L` line that it prints. Ctrl+C ends it.
    """
    from deeptune.runs import run_state

    directory = named_run(run, root)
    if not directory.report.exists():
        state = run_state(directory)
        raise CheckpointError(
            f"the run {directory.id} has no report: it is {state.word}",
            hint=f"A run writes it at its end. Where it is missing: deeptune resume {directory.reference}",
        )
    if samples is None:
        refresh(directory)
    else:
        from deeptune.report import write_report

        write_report(directory.path, samples=samples)
    if not serve:
        say(short_path(directory.report))
        return
    from deeptune.report.serve import LOOPBACK, report_server

    with report_server(directory.report, port) as server:
        number = server.server_address[1]
        say(f"the report of {directory.id}: http://{LOOPBACK}:{number}/")
        say(f"from another machine, first: ssh -L {number}:{LOOPBACK}:{number} {_login()}")
        say("Ctrl+C ends it", stderr=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say()


def _login() -> str:
    """Return the user and address for `ssh` to this machine, as far as it knows them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no account
        user = "USER"
    line = os.environ.get("SSH_CONNECTION", "").split()  # client's address and port, then ours
    return f"{user}@{line[2] if len(line) == 4 else socket.gethostname()}"
