"""The table of commands says what the commands say, and a command is imported only where it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from deeptune.cli.app import app
from deeptune.cli.command_table import COMMANDS, LazyCommands


@pytest.mark.parametrize(("name", "summary"), [(name, summary) for name, _, summary in COMMANDS])
def test_the_table_has_the_first_line_of_each_commands_help(name, summary):
    command = LazyCommands()[name]
    assert command.name == name
    assert command.get_short_help_str(limit=80) == summary


def test_the_group_knows_each_command_of_the_table():
    group = typer.main.get_command(app)
    assert list(group.commands) == [name for name, _, _ in COMMANDS]


@pytest.mark.parametrize(("arguments", "imported"), [(["--help"], set()), (["doctor", "--help"], {"doctor"})])
def test_only_the_command_that_is_called_is_imported(arguments, imported):
    code = f"""
import sys
sys.argv = ["deeptune", *{arguments!r}]
from deeptune.cli.app import run_command
assert run_command() == 0
print(sorted(name for name in sys.modules if name.startswith("deeptune.cli.")), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {name.removeprefix("deeptune.cli.") for name in eval(done.stderr.splitlines()[-1])}
    assert found - {"app", "completion", "command_table", "usage_hints"} == imported
