"""What answers at once: help, version, presets, backbones, the spec's keys. Each in a process of its own."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from answers import Answer

from deeptune import __version__
from deeptune.catalog import CATALOG
from deeptune.cli.reference import EXIT_CODES, reference
from deeptune.errors import DeepTuneError

HEAVY = frozenset(("torch", "torchvision", "transformers", "timm", "peft", "pandas", "sklearn", "textual", "pyarrow"))


def modules_after(code: str, environment) -> set[str]:
    """The top-level modules that a fresh process has loaded after `code`."""
    script = f"{code}\nimport sys\nprint('\\n@' + ' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    return set(done.stdout.rpartition("@")[2].split())


def test_a_run_imports_no_library_before_it_needs_it(environment):
    """A run on images needs no transformers, one on texts no torchvision, and neither needs PEFT without adapters."""
    later = {"torchvision", "transformers", "timm", "peft", "scipy", "sklearn", "matplotlib", "pandas"}
    found = modules_after("import deeptune.engine.run", environment)
    assert "torch" in found
    assert not found & later


def test_the_command_line_imports_nothing_heavy(environment):
    assert "torch" in modules_after("import torch", environment)  # the probe can tell
    rooms = [
        "cli",
        "cli.watch",
        "show.viewer",
        "cli.control",
        "cli.runs",
        "cli.summary",
        "cli.reference",
        "spec",
        "spec.defaults",
        "spec.presets",
        "runs",
        "catalog",
        "errors",
    ]
    assert not HEAVY & modules_after("; ".join(f"import deeptune.{room}" for room in rooms), environment)


def test_help_needs_no_validation(environment):
    assert "pydantic" not in modules_after("import deeptune.cli.app", environment)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["--version"], ["run", "--help"], ["embed", "--help"], ["presets"], ["presets", "gpt2_text"],
        ["presets", "--json"], ["backbones"], ["backbones", "--json"], ["spec", "schema"], ["spec", "fields"],
        ["spec", "check", "gpt2_text"], ["runs"], ["runs", "--json"], ["resume", "--help"], ["probe", "--help"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_answers_without_loading_pytorch(arguments, environment):
    code = (
        f"import sys\nsys.argv = ['deeptune', *{arguments!r}]\nfrom deeptune.cli.app import run_command\n"
        "assert run_command() == 0"
    )
    assert not HEAVY & modules_after(code, environment)


def test_version_and_help(command):
    assert command("--version") == Answer(0, f"deeptune {__version__}\n", "")
    answer = command("--help")
    assert answer.code == 0
    for verb in (
        "run",
        "runs",
        "attach",
        "status",
        "logs",
        "stop",
        "resume",
        "predict",
        "evaluate",
        "embed",
        "probe",
        "presets",
        "backbones",
        "spec",
    ):
        assert f"\n  {verb} " in answer.stdout
    first = answer.stdout.partition("Commands:")[2].splitlines()
    assert not any(line.endswith("...") for line in first), "a summary is cut off at 80 columns"
    assert command("-h").stdout == answer.stdout


def test_presets(command, tmp_path):
    answer = command("presets")
    assert answer.code == 0
    assert "quickstart " in answer.stdout
    rows = json.loads(command("presets", "--json").stdout)
    assert all(row["summary"] for row in rows)
    assert all(Path(row["path"]).is_file() for row in rows)
    text = command("presets", "gpt2_text").stdout
    assert tomllib.loads(text)["backbone"]["name"] == "gpt2"
    (tmp_path / "mine.toml").write_text(text)
    assert command("spec", "check", "mine.toml").code == 0
    wrong = command("presets", "gpt2_txt")
    assert wrong.code == 2
    assert "Did you mean 'gpt2_text'" in wrong.stderr


def test_backbones(command):
    rows = json.loads(command("backbones", "--json").stdout)
    assert [row["name"] for row in rows] == list(CATALOG)
    assert set(rows[0]) == {
        "name", "family", "modality", "parameters", "embedding_width", "input_size", "pooling", "weights_from",
        "weights_file", "on_this_machine",
    }  # fmt: skip
    table = command("backbones")
    assert all(name in table.stdout for name in CATALOG)
    for key, value in (("modality", "text"), ("family", "vgg")):
        chosen = json.loads(command("backbones", "--json", f"--{key}", value).stdout)
        assert chosen == [row for row in rows if row[key] == value] != []
    wrong = command("backbones", "--family", "resnets")
    assert wrong.code == 2
    assert "Did you mean 'resnet'" in wrong.stderr


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize("arguments", [["backbones"], ["presets"], ["spec", "fields"], ["run", "--help"]], ids=" ".join)
def test_nothing_is_cut_off_at_usual_widths(command, monkeypatch, arguments, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = command(*arguments).stdout
    assert "…" not in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= columns


@pytest.mark.parametrize(("variables", "coloured"), [({"FORCE_COLOR": "1"}, True), ({}, False)])
def test_a_file_is_no_terminal_though_colours_are_forced(monkeypatch, variables, coloured):
    from rich.live import Live
    from rich.text import Text

    from deeptune.show.console import console

    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    out = console(file=stream)
    assert not out.is_terminal
    with Live(Text("one", style="red"), console=out) as live:
        live.update(Text("two", style="red"))
    assert ("\x1b[31m" in stream.getvalue()) == coloured
    assert re.findall(r"\x1b\[[^m]*[A-Za-ln-z]", stream.getvalue()) == []  # none moves, hides or clears


def test_a_reader_that_goes_away_is_no_error(cli):
    for arguments in (["backbones"], ["presets", "quickstart"]):
        read, write = os.pipe()
        os.close(read)
        with open(write, "wb") as pipe:
            assert cli(*arguments, stdout=pipe) == Answer(0, "", "")


def test_the_reference_is_made_of_the_commands_as_they_are(tmp_path):
    """`python -m deeptune.cli.reference docs/cli.md` makes it again."""
    assert (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8") == reference()


def test_the_exit_codes_of_the_reference_are_those_of_the_errors():
    codes = {kind.exit_code for kind in DeepTuneError.__subclasses__()}
    assert codes | {0, 1, 130} == {code for code, _ in EXIT_CODES}


def test_a_folder_that_is_gone_is_one_message(cli, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    remove = lambda: os.rmdir(folder)  # noqa: E731
    answer = cli("runs", cwd=folder, preexec_fn=remove)
    assert answer.code == 2
    assert answer.stderr.startswith("spec error: the current folder cannot be used")
    folder.mkdir()
    assert cli("--version", cwd=folder, preexec_fn=remove).code == 0
