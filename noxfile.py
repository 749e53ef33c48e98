"""`nox` builds a fresh environment, installs DeepTune as a user would, and runs every test and linter in it."""

from __future__ import annotations

import os

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["check"]
nox.options.error_on_missing_interpreters = True

PROJECT = nox.project.load_toml("pyproject.toml")
TEST = nox.project.dependency_groups(PROJECT, "test")
LINT = nox.project.dependency_groups(PROJECT, "lint")
DOCS = nox.project.dependency_groups(PROJECT, "docs")


@nox.session
def check(session: nox.Session) -> None:
    """Linters, then the whole test suite, against the built wheel's own dependencies."""
    session.install(".[quickstart]", *TEST, *LINT, *DOCS)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    build_docs(session)
    tests(session)


@nox.session
def test(session: nox.Session) -> None:
    """The test suite alone; `nox -s test -- tests/unit -k lora` passes arguments on."""
    session.install(".[quickstart]", *TEST)
    tests(session)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site in `docs/_build/html`; `python -m http.server -d docs/_build/html` shows it."""
    session.install(".", *DOCS)
    build_docs(session)


def build_docs(session: nox.Session) -> None:
    """Build the site. A warning, such as of a broken link, is an error."""
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "--quiet", "docs", "docs/_build/html")


def tests(session: nox.Session) -> None:
    """Run the tests, and whole runs on a simulated GPU, which patches PyTorch and so has processes of its own."""
    # Two processes on two cores, one compute thread in each: the fastest that does not thrash.
    session.env["OMP_NUM_THREADS"] = "1"
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs)
    if not session.posargs and "DEEPTUNE_TEST_DEVICE" not in os.environ:
        session.env["DEEPTUNE_TEST_DEVICE"] = "simulated"
        session.run("pytest", "-n", "2", "tests/integration/test_gpu_runs.py")
