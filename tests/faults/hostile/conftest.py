"""Every test of input that somebody made to do harm: nothing in it is run, and nothing is written elsewhere."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _unharmed(tmp_path, monkeypatch):
    """Every test works in a folder of its own, and nothing in it may be run."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a person was asked whether to run code"))
    yield
    assert not list(tmp_path.rglob("pwned"))
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in (".parquet", "")] == []
