"""Rank backbones on a person's own rows: frozen features through the cache, heads by cross-validation.

The rows are those of train and val: test takes no part, so that the run that follows is scored on rows that chose
nothing. Features are stored as a run stores them, so that a run with a backbone of the probe passes no row again.
"""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deeptune.catalog import find
from deeptune.data.cache.entry import Cache
from deeptune.data.splits.folds import FOLDS, draw_folds
from deeptune.data.splits.planner import draft_plan
from deeptune.data.splits.split_data import SplitData
from deeptune.data.splits.split_files import open_sources
from deeptune.engine.out_of_memory import release_memory
from deeptune.engine.prepare import prepare
from deeptune.engine.probe_passes import PILOT_ROWS, SCORED, Pace, ProbedFeatures, ProbeLog, pass_rows
from deeptune.errors import DataError, RunStopped, SpecError, TrainingError, WeightsError, first_line
from deeptune.formatting import counted
from deeptune.probing import candidates
from deeptune.probing.advice import advise
from deeptune.probing.candidates import Candidate
from deeptune.probing.heads import RECIPE, BoostedTrees, HeadKind, LinearHead, out_of_fold
from deeptune.probing.ranking import (
    HeadScore,
    RankedBackbone,
    Ranking,
    State,
    file_stamp,
    sorted_backbones,
    store_ranking,
    stored_ranking,
)
from deeptune.probing.scores import constant_score, ranking_metric, score_rows
from deeptune.runs.control import StopFlag
from deeptune.signals import signal_handlers
from deeptune.spec.defaults import absolute_data
from deeptune.spec.model_spec import TuningSpec
from deeptune.spec.run_spec import SPLITS, RunSpec
from deeptune.spec.toml import dump_spec

MAX_ROWS = 5000  # rows that heads are fitted to: more hardly move an order, and an accuracy is known to ±0.014 by then
MIN_ROWS = 20  # rows that a head is scored on, at least
COMPARED_ROWS = 200  # rows below which a backbone takes no part where others have as many
PASS_SHARE = 0.7  # share of the budget for passes; heads take the rest


class _OutOfTime(Exception):
    """The budget is spent."""


@dataclass(frozen=True)
class Rows:
    """Rows with their features, float32 (N, width), targets, groups and hashes."""

    features: np.ndarray
    targets: np.ndarray
    groups: np.ndarray | None
    hashes: np.ndarray | None


class Probe:
    """Ranks backbones. `spec` names data, task and seed; its backbone is replaced by each of `named`.

    Without names, all backbones whose weights are here are ranked, and that of the spec unless it is `ANY_BACKBONE`.
    `ranking` is what is known so far, None before anything is.
    """

    def __init__(
        self, spec: RunSpec, named: list[str] | None = None, *, budget: float = 300.0, log: ProbeLog | None = None
    ) -> None:
        self.asked, self.budget, self.log = spec, budget, log or ProbeLog()
        self.started = time.monotonic()
        self.named = named
        # As a partial run: the same samples, and features of the same name in the cache.
        train = spec.train.model_copy(update={"augmentation": "none"})
        self.spec = spec.model_copy(update={"tuning": TuningSpec(), "train": train})  # type: ignore[call-arg]
        self.passed: dict[Candidate, ProbedFeatures] = {}
        self.rows: dict[Candidate, RankedBackbone] = {}
        self.ranking: Ranking | None = None
        self.earlier: dict[str, RankedBackbone] = {}
        self.notes: list[str] = []
        self.short = False  # whether rows, or backbones, were left out for the budget's sake

    def run(self) -> Ranking:
        """Rank, and return the ranking; after Ctrl+C, what is known by then.

        Raises DataError or SpecError for data that a run could not use either, and KeyboardInterrupt where nothing is
        known yet.
        """
        try:
            with _interrupts(self.log.stop), Cache(self.log.tell, self.log.stop.check) as cache:
                self._rank(cache)
        except (RunStopped, KeyboardInterrupt):
            if self.ranking is None:
                raise KeyboardInterrupt from None
            self.ranking = self._ranked("stopped")
        assert self.ranking is not None
        return self.ranking

    def _rank(self, cache: Cache) -> None:
        sources = open_sources(self.spec)
        draft = draft_plan(self.spec, sources=sources)
        self.input, self.modality = draft.input, draft.modality
        found = self._candidates(draft.modality)
        files = [file for source in sources.values() for file in source.files]
        self.files = [seen for file in dict.fromkeys([*files, *_named_files(self.spec)]) if (seen := file_stamp(file))]
        if (before := stored_ranking(self.spec, draft.input)) is not None:
            self.earlier = {f"{one.name} {one.weights}": one for one in before.backbones}
        for at, candidate in enumerate(found):
            share = max(0.0, self._left(PASS_SHARE)) / (len(found) - at)
            self._pass(cache, candidate, share=share)
        if not self.passed:
            reasons = "; ".join(f"{one.name}: {one.reason}" for one in self.rows.values())
            raise WeightsError(
                f"no backbone could be loaded. {reasons}",
                hint="`deeptune weights list` shows the weights on this machine.",
            )
        self._equal_rows(cache)
        self._score_trees()
        self.ranking = self._ranked("short" if self.short else "complete")
        self._keep()

    def _candidates(self, modality: str) -> list[Candidate]:
        """List the backbones to probe: those that are named, else the spec's and those whose weights are here."""
        if self.named is not None:
            return candidates.named_candidates(self.named, modality)
        own = self.asked.backbone
        if own.name == candidates.ANY_BACKBONE:
            return candidates.local_candidates(modality)
        candidate = Candidate(find(own.name).name, own.weights)
        candidates.require_modality(candidate, modality)
        try:
            return list(dict.fromkeys([candidate, *candidates.local_candidates(modality)]))
        except SpecError:  # none is here: the spec's may be fetched
            return [candidate]

    def _left(self, share: float = 1.0) -> float:
        """Return the seconds of a share of the budget that are left."""
        return share * self.budget - (time.monotonic() - self.started)

    # Features.

    def _pass(self, cache: Cache, candidate: Candidate, *, share: float = 0.0, rows: int = 0) -> None:
        """Pass the rows of a backbone, all of them if that takes at most `share` seconds, else `rows` of them."""
        self.log.doing = candidate.title
        try:
            ready = prepare(self._spec_of(candidate), logger=self.log, cache=cache)
            ready.model.to(ready.compute.device)
            passed = pass_rows(ready, cache, candidate, self.log, Pace(share, rows))
        except (WeightsError, TrainingError) as error:
            self.rows[candidate] = RankedBackbone(candidate.name, candidate.weights, reason=first_line(error))
            self.log.tell(f"{candidate.title} is left out: {first_line(error)}")
            self.ranking = self._ranked("stopped")
            return
        finally:
            release_memory()
        before = self._before(candidate)
        if passed.row.feature_seconds is None and before is not None:  # its features were in the cache
            passed.row = replace(passed.row, feature_seconds=before.feature_seconds)
        self.passed[candidate] = passed
        self.rows[candidate] = passed.row
        if passed.complete:
            self._score(candidate, MAX_ROWS)

    def _spec_of(self, candidate: Candidate) -> RunSpec:
        return self.spec.model_copy(update={"backbone": candidate.backbone_spec(self.spec.backbone)})

    def _before(self, candidate: Candidate) -> RankedBackbone | None:
        """Return an earlier probe's result for a backbone on the same data."""
        return self.earlier.get(f"{candidate.name} {candidate.weights}")

    def _equal_rows(self, cache: Cache) -> None:
        """Bring all backbones to the same number of rows, and score them on so many: more rows score higher."""
        waiting = [candidate for candidate, passed in self.passed.items() if not passed.complete]
        if not waiting:
            return
        pace = sum(self.passed[candidate].pace or 0.0 for candidate in waiting)
        rows = PILOT_ROWS + int(max(0.0, self._left(PASS_SHARE)) / pace if pace else 0)
        for candidate in waiting:
            if rows > self.passed[candidate].done:
                self._pass(cache, candidate, rows=rows)
        self.short = not all(self.passed[candidate].complete for candidate in waiting)
        counts = {candidate: len(passed.usable()) for candidate, passed in self.passed.items()}
        few = [candidate for candidate, count in counts.items() if count < COMPARED_ROWS]
        for candidate in few if len(few) < len(counts) else ():  # they would take all others down to their rows
            reason = f"{counted(counts.pop(candidate), 'row')} passed within the budget, too few to compare"
            self.rows[candidate] = replace(self.passed.pop(candidate).row, reason=reason)
        for candidate in counts:
            self._score(candidate, min(MAX_ROWS, *counts.values()))

    # Heads.

    def _rows_of(self, passed: ProbedFeatures, most: int) -> tuple[Rows, np.ndarray]:
        """Return at most so many usable rows, evenly drawn, and where they are."""
        usable = np.array(passed.usable(), np.int64).reshape(-1, 2)
        if len(usable) > most:
            usable = usable[np.unique(np.linspace(0, len(usable) - 1, most).round().astype(np.int64))]
        parts: list[tuple[np.ndarray, SplitData, np.ndarray]] = []
        for at, (split, features) in enumerate(passed.features):
            places, data = usable[usable[:, 0] == at, 1], passed.plan.splits[split]
            parts.append((features.take(data.rows[places]), data, places))
        groups = _joined([None if data.groups is None else data.groups[places] for _, data, places in parts])
        hashes = _joined([None if data.hashes is None else data.hashes[places] for _, data, places in parts])
        targets = np.concatenate([data.targets[places] for _, data, places in parts])
        return Rows(np.concatenate([features for features, _, _ in parts]), targets, groups, hashes), usable

    def _score(self, candidate: Candidate, most: int) -> None:
        """Score a linear head on at most so many rows, unless an earlier probe has done it on the same ones."""
        passed = self.passed[candidate]
        rows, places = self._rows_of(passed, most)
        if len(places) < MIN_ROWS:
            reason = f"{counted(len(places), 'row')} passed within the budget, too few to score a head"
            self.rows[candidate] = replace(passed.row, reason=reason)
            self.ranking = self._ranked("stopped")
            return
        identity = _identity(passed.key, places, self.spec)
        before = self._before(candidate)
        known = before if before is not None and before.identity == identity else None
        linear = known.linear if known else self._head_score(LinearHead(), passed, rows, self.log.stop.check)
        self.rows[candidate] = replace(
            passed.row,
            rows=len(places),
            linear=linear,
            boosting=known.boosting if known else None,
            identity=identity,
        )
        self.ranking = self._ranked("stopped")
        self._keep()

    def _head_score(self, kind: HeadKind, passed: ProbedFeatures, rows: Rows, check: Callable[[], None]) -> HeadScore:
        task, started = passed.plan.task, time.monotonic()
        folds = draw_folds(rows.targets, task, groups=rows.groups, hashes=rows.hashes, seed=self.spec.train.seed)
        if folds.max() == 0:
            raise DataError(
                f"data.group: all rows of train and val are of one group in column {self.spec.data.group!r}",
                hint="Cross-validation needs at least two groups.",
            )
        predicted = out_of_fold(kind, rows.features, rows.targets, task, folds, check)
        seconds = time.monotonic() - started
        score = score_rows(task, predicted.logits.astype(np.float32), rows.targets, rows.groups)
        return HeadScore(score.value, score.interval, round(seconds, 3), score.metrics, predicted.penalty)

    def _score_trees(self) -> None:
        """Score boosted trees on the features of each backbone, the best first, while there is time."""

        def check() -> None:
            self.log.stop.check()
            if self._left() <= 0:
                raise _OutOfTime

        for at, row in enumerate(sorted_backbones(list(self.rows.values()))):
            candidate = Candidate(row.name, row.weights)
            if row.linear is None or row.boosting is not None:
                continue
            self.log.doing = f"boosted trees on {candidate.title}"
            self.log.progress(at, len(self.rows))
            passed = self.passed[candidate]
            try:
                rows, _ = self._rows_of(passed, row.rows)
                trees = self._head_score(BoostedTrees(), passed, rows, check)
            except _OutOfTime:
                self.notes.append("the budget was over before boosted trees were fitted to every backbone's features")
                return
            self.rows[candidate] = replace(row, boosting=trees)
            self.ranking = self._ranked("stopped")
            self._keep()

    # What was found.

    def _keep(self) -> None:
        """Store the ranking, with the backbones that only an earlier probe of the same data has scored."""
        assert self.ranking is not None
        others = [one for one in self.earlier.values() if Candidate(one.name, one.weights) not in self.rows]
        backbones = sorted_backbones([*self.ranking.backbones, *others])
        store_ranking(replace(self.ranking, backbones=backbones), self.spec, self.input)

    def _ranked(self, state: State) -> Ranking:
        """Return the ranking of what is known by now."""
        backbones = sorted_backbones(list(self.rows.values()))
        passed = next(iter(self.passed.values()), None)
        metric, baseline, counts, notes = "", None, dict.fromkeys(SPLITS, 0), list(self.notes)
        if passed is not None:
            plan = passed.plan
            counts = {split: len(plan.splits[split]) for split in SPLITS}
            metric = ranking_metric(plan.task)
            truth = np.concatenate([plan.splits[split].targets for split in SCORED if counts[split]])
            baseline = constant_score(plan.task, truth)
            notes = [*plan.warnings, *notes]
        usable = counts["train"] + counts["val"]
        scored = max((one.rows for one in backbones), default=0)
        if scored < usable and scored:
            why = "the budget is short" if self.short else f"heads are fitted to {MAX_ROWS:,} rows at most"
            notes.append(f"scores are of {scored:,} of {usable:,} rows of train and val, spread evenly: {why}")
        advice = advise(backbones, metric=metric, baseline=baseline, rows=counts["train"], modality=self.modality)
        return Ranking(
            data=_shown(self.asked), task=self.asked.task, metric=metric, usable_rows=usable,
            test_rows=counts["test"], scored_rows=scored, folds=FOLDS, budget=self.budget,
            seconds=round(time.monotonic() - self.started, 1), state=state, baseline=baseline, backbones=backbones,
            advice=advice, spec=self._advised(advice.backbone, advice.method, backbones) if advice else "",
            notes=list(dict.fromkeys(notes)), files=self.files,
        )  # fmt: skip

    def _advised(self, name: str, method: str, backbones: list[RankedBackbone]) -> str:
        """Return the spec that is advised, as TOML with the keys that were set."""
        weights = next(one.weights for one in backbones if one.name == name)
        spec = self.asked
        section = {**spec.backbone.model_dump(exclude_unset=True), "name": name}
        section = section | {"weights": weights} if weights != "pretrained" else section
        tuning = spec.tuning.model_dump(exclude_unset=True) | {"method": method}
        if method != "partial":
            tuning.pop("unfreeze", None)
        values = spec.model_dump(exclude_unset=True) | {"backbone": section, "tuning": tuning}
        return dump_spec(RunSpec.model_validate(values), only_set=True)


@contextmanager
def _interrupts(stop: StopFlag) -> Iterator[None]:
    """Make of Ctrl+C a stop at the next batch or fold, and of a second one an end at once.

    Libraries turn an interrupt inside of their own code into other errors. Other threads leave signals as they are.
    """

    def on_interrupt(_number: int, _frame: object) -> None:
        if stop.reason is not None:
            raise KeyboardInterrupt
        stop.request("by Ctrl+C")

    with signal_handlers({signal.SIGINT: on_interrupt}):
        yield


def _identity(key: str, places: np.ndarray, spec: RunSpec) -> str:
    """Identify a head's score by what decides it: features, rows, task, groups, folds and the heads' recipe."""
    content = [key, places.tolist(), spec.task, spec.data.label, spec.data.group, spec.train.seed, RECIPE]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def _named_files(spec: RunSpec) -> list[Path]:
    """Return the files that the spec names as data; of an import, the source's own files are a copy."""
    data = absolute_data(spec.data)
    named = [paths for paths in (data.path, data.train, data.val, data.test) if paths is not None]
    return [Path(path) for paths in named for path in ([paths] if isinstance(paths, str) else paths)]


def _shown(spec: RunSpec) -> str:
    path = spec.data.path or spec.data.train or ""
    return path if isinstance(path, str) else ", ".join(path)
