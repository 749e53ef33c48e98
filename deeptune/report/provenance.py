"""Versions and fingerprints of a finished run."""

from __future__ import annotations

from typing import Any

from deeptune.formatting import visible
from deeptune.report.finished_run import FinishedRun
from deeptune.report.methods_paragraph import Facts


def provenance(run: FinishedRun) -> Facts:
    """List versions and fingerprints, with which a second run can be shown to be the same."""
    versions = run.run.get("versions")
    facts = [(str(name), str(version)) for name, version in versions.items()] if isinstance(versions, dict) else []
    facts += _fingerprints(run.run)
    return [(visible(term), visible(text)) for term, text in facts]


def _fingerprints(value: Any, path: str = "") -> Facts:
    if isinstance(value, dict):
        return [fact for key, item in value.items() for fact in _fingerprints(item, f"{path} {key}".strip())]
    return [(path.replace("_", " "), value)] if isinstance(value, str) and value.startswith("sha256:") else []
