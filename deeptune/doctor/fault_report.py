"""A report of a fault that can be pasted into an issue: what the machine is, what a run said; no names of persons."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from deeptune.doctor.finding import Finding
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import read_json
from deeptune.runs.state import run_state

LAST_LINES = 40  # lines of what libraries printed that a report has, the last ones
MIN_NAME = 3  # characters: a shorter name would be replaced within words
_MARKS = {"ok": " ", "warn": "!", "fail": "x"}
_PATH = re.compile(r"(?<![\w.~:/])/(?:[^\s'\"`,;:()\[\]]+/)*([^\s'\"`,;:()\[\]/]+)/?")
_PACKAGES = re.compile(r"/[^\s'\"]*?/((?:site|dist)-packages/[^\s'\"]+)")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")


def fault_report(findings: Iterable[Finding], run: RunDirectory | None = None) -> str:
    """Write the findings, and the end of a run, as Markdown without names of persons, machines and folders."""
    lines = ["## Machine", "", "```"]
    for each in findings:
        lines.append(f"{_MARKS[each.level]} {each.name}: {each.found}")
    lines.append("```")
    if run is not None:
        lines += ["", "## Run", "", *_run_lines(run)]
    lines += ["", "## What I did, and what I expected", "", "…"]
    return anonymous("\n".join(lines)) + "\n"


def _run_lines(run: RunDirectory) -> list[str]:
    state = run_state(run)
    lines = [f"State: {state.word}. {state.detail}".rstrip()]
    with suppress(Exception):
        error = read_json(run.result).get("error") or {}
        lines += [f"{key}: {value}" for key, value in error.items()]
    for title, file in (("spec.toml", run.spec), ("console.log", run.console)):
        text = _tail(file, LAST_LINES if file == run.console else 1000)
        if text:
            lines += ["", f"### {title}", "", "```", text, "```"]
    return lines


def _tail(file: Path, count: int) -> str:
    try:
        return "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
    except OSError:
        return ""


def anonymous(text: str) -> str:
    """Replace user, host, mail addresses and the folders of paths; names of files and of packages stay."""
    text = _PACKAGES.sub(r"\1", text)
    text = text.replace(str(Path.home()), "~") if len(str(Path.home())) > 1 else text
    text = _PATH.sub(r"…/\1", text)
    text = re.sub(r"~/(?:[^\s'\"`,;:()\[\]]+/)+([^\s'\"`,;:()\[\]/]+)", r"~/…/\1", text)
    text = _MAIL.sub("MAIL", text)
    for name, word in ((_user(), "USER"), (socket.gethostname(), "HOST")):
        if len(name) >= MIN_NAME:
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", word, text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
