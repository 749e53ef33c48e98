"""Audit data from Python: files or a spec, with the features and the tokenizer of a backbone where there is one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeptune.auditing import AuditReport, AuditRequest, audit_data
from deeptune.auditing.data import AuditData, Tokens
from deeptune.auditing.fixing import fixable_source
from deeptune.auditing.request import open_request
from deeptune.environment import cores
from deeptune.errors import DeepTuneError, SpecError
from deeptune.formatting import duration
from deeptune.progress import StepProgress
from deeptune.spec.modalities import COLUMN_MODALITIES, MODALITIES, Input
from deeptune.spec.run_spec import BackboneSpec, RunSpec

if TYPE_CHECKING:
    from deeptune.data.sources.source import Source
    from deeptune.engine.predict import Embedder

BUDGET = 120.0  # seconds that features may take, where no backbone is named
LONGEST = 512  # tokens that most text backbones take
# Floating-point operations a second that are expected. Time is not measured, as a busy machine would then find less.
CORE_SPEED, DEVICE_SPEED = 2e10, 1e13


def audit(data: Any, **options: Any) -> AuditReport:
    """Audit data before anything learns from it, and return what was found.

    `data` is a Parquet file, a glob, a folder, `sample:NAME`, a dictionary of files by split, or a spec (RunSpec or the
    path of a TOML file). Options: `label`, `input`, `group`, `split_column` and `task` name what the data do not say;
    `backbone` is a name, whose tokenizer and features are used; `features=False` uses cheap features only; `budget`
    limits the seconds that features may take, by an estimate that the load of the machine doesn't change;
    `progress(what, done, total)` is called as the work proceeds.

    Raises DataError where files or columns can't be opened, SpecError for options that there are not, and WeightsError
    for a backbone that can't be loaded.
    """
    return audited(data, **options)[0]


def audited(
    data: Any,
    *,
    backbone: str | None = None,
    features: bool = True,
    budget: float | None = None,
    progress: StepProgress | None = None,
    **columns: Any,
) -> tuple[AuditReport, AuditData]:
    """Do what `audit` does, and return the data beside the report."""
    request, spec = request_of(data, columns)
    means = _Backbone(backbone, spec, features, budget, progress)
    report, found = audit_data(request, features=means.features, tokens=means.tokens, progress=progress)
    return replace(report, notes=(*means.notes, *report.notes)), found


def require_fixable(data: Any, output: Path, **columns: Any) -> None:
    """Raise the error that would end the writing of a cleaned file, before an audit that may take minutes."""
    request, _ = request_of(data, columns)
    fixable_source(list(open_request(request).sources.values()), output)


def request_of(data: Any, columns: dict[str, Any]) -> tuple[AuditRequest, RunSpec | None]:
    """Read what to audit, and the spec where it is one. Columns that are given take the place of the spec's."""
    known = {"label", "input", "group", "split_column", "task", "modality", "root"}
    if unknown := sorted(set(columns) - known):
        raise SpecError(f"audit: there is no option {unknown[0]!r}", hint=f"Options: {', '.join(sorted(known))}.")
    given: dict[str, Any] = {name: value for name, value in columns.items() if value is not None}
    spec = _spec_of(data)
    if spec is not None:
        return replace(AuditRequest.of_spec(spec), **given), spec
    if isinstance(data, dict):
        files = {split: os.fspath(path) for split, path in data.items()}
        if not files or not set(files) <= {"path", "train", "val", "test"}:
            raise SpecError("audit: name files by split: train, val and test")
        return AuditRequest(files, **given), None
    paths = [os.fspath(one) for one in data] if isinstance(data, (list, tuple)) else os.fspath(data)
    return AuditRequest({"path": paths}, **given), None


def _spec_of(data: Any) -> RunSpec | None:
    """Read a spec where `data` is one: a RunSpec, a TOML file, or the name of a preset that is not a file."""
    if isinstance(data, RunSpec):
        return data
    if not isinstance(data, (str, os.PathLike)):
        return None
    from deeptune.spec.presets import find_spec_file, preset_files
    from deeptune.spec.toml import load_spec

    name = os.fspath(data)
    if name.lower().endswith(".toml") or (name in preset_files() and not Path(name).exists()):
        return load_spec(find_spec_file(name))
    return None


class _OverBudget(Exception):
    """Features would take longer than they may."""


class _Backbone:
    """The features and tokens of a backbone: the named one, the spec's, or one whose weights are on this machine."""

    def __init__(
        self, name: str | None, spec: RunSpec | None, wanted: bool, budget: float | None, progress: StepProgress | None
    ) -> None:
        self.named, self.wanted, self.progress = name is not None, wanted, progress
        self.budget = budget if budget is not None or self.named else BUDGET
        self.spec = spec.backbone if spec is not None and name is None else None
        if name is not None:
            self.spec = BackboneSpec.model_validate({"name": name})
        self.notes: list[str] = []
        self._embedder: Embedder | None = None
        self._seconds = 0.0  # that the features of all sources so far are expected to take

    def features(self, source: Source, modality: str, input: Input) -> np.ndarray | None:
        """Give the features of all rows of a source (float32 (N, width), NaN without a sample), or None."""
        embedder = self._load(modality) if self.wanted else None
        if embedder is None:
            return None
        from deeptune.engine.predict import ApplyOptions

        embedder.input, embedder.admit = input, self._admit
        try:
            return embedder.embeddings(source, ApplyOptions(progress=self._progress))
        except _OverBudget:
            self.notes.append(
                f"features would take about {duration(self._seconds)}, more than the {self.budget:g} s allowed: "
                "cheap ones are used. --budget allows more time"
            )
        except DeepTuneError as error:
            if self.named:
                raise
            self.notes.append(f"cheap features are used, as there are none of a backbone: {error.message}")
        return None

    def tokens(self, modality: str) -> Tokens | None:
        """Say how the backbone cuts texts; without one, what most text backbones take."""
        if modality not in COLUMN_MODALITIES or not COLUMN_MODALITIES[modality].counts_tokens:
            return None
        embedder = self._load(modality) if self.spec is not None else None
        preprocessing: Any = None if embedder is None else embedder.backbone.preprocessing
        if preprocessing is None:
            given = getattr(self.spec, "max_length", "auto")
            return Tokens(LONGEST if given == "auto" or given is None else int(given))
        return Tokens(preprocessing.max_length, self._name, lambda texts: _lengths(preprocessing.tokenizer, texts))

    @property
    def _name(self) -> str:
        return "" if self.spec is None else self.spec.name

    def _load(self, modality: str) -> Embedder | None:
        """Load the backbone once; None where there is none here. Raises WeightsError for a named one."""
        if self._embedder is not None:
            return self._embedder
        from deeptune.fetching import weights_to_fetch

        spec = self.spec or _here(modality)
        if spec is None:
            return None
        try:
            missing = [] if self.named else weights_to_fetch(spec)
            if missing:
                self.notes.append(f"cheap features are used: {missing[0].text}")
                return None
            from deeptune.engine.predict import Embedder

            self._embedder = Embedder(spec)
        except DeepTuneError as error:
            if self.named:
                raise
            self.notes.append(f"cheap features are used, as the backbone can't be loaded: {error.message}")
            return None
        if self._embedder.modality != modality:
            if self.named:
                raise SpecError(f"backbone: {spec.name!r} takes no {MODALITIES[modality].plural}")
            self._embedder = None
        return self._embedder

    def _progress(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress("features", done, total)

    def _admit(self, operations: float) -> None:
        """End the features where they would take longer than they may on a machine that does nothing else."""
        assert self._embedder is not None
        on_cpu = self._embedder.compute.device.type == "cpu"
        self._seconds += operations / (CORE_SPEED * cores() if on_cpu else DEVICE_SPEED)
        if self.budget is not None and self._seconds > self.budget:
            raise _OverBudget


def _here(modality: str) -> BackboneSpec | None:
    """Choose the smallest backbone of the catalog whose weights are on this machine."""
    from deeptune.catalog import CATALOG, weights_on_this_machine

    here = [row for row in CATALOG.values() if row.modality == modality and weights_on_this_machine(row) is not None]
    if not here:
        return None
    return BackboneSpec.model_validate({"name": min(here, key=lambda row: row.parameters or 0).name})


def _lengths(tokenizer: Any, texts: Any) -> np.ndarray:
    """Count the tokens of texts (int64 (N,)), with the special ones, without cutting."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of each text that is longer than the model takes
    try:
        counts = [
            len(ids)
            for start in range(0, len(texts), 512)
            for ids in tokenizer(list(texts[start : start + 512]), truncation=False)["input_ids"]
        ]
    finally:
        logging.set_verbosity(level)
    return np.array(counts, np.int64)
