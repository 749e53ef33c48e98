"""Describe the data of a finished run: its files, and how its rows came into the splits."""

from __future__ import annotations

from deeptune.report.finished_run import FinishedRun
from deeptune.report.test_looks import groups_in_train
from deeptune.spec.tasks import TASKS


def data_files(run: FinishedRun) -> list[str]:
    """List the files, globs and folders of the spec that the rows come from."""
    data = run.spec.data
    given = [data.path] if data.path else [data.train, data.val, data.test]
    return [path for paths in given if paths for path in ([paths] if isinstance(paths, str) else paths)]


def how_split(run: FinishedRun) -> str:
    """Say how the rows came into the splits, as the end of a sentence; empty where all rows are in one."""
    data, drawn = run.spec.data, run.result.get("drawn")
    if drawn is None:  # a run of an earlier version
        given = (data.val and data.test) or data.split_column not in ("auto", "none")
        drawn = [] if given else ["val", "test"] if data.path else [s for s in ("val", "test") if not getattr(data, s)]
    of_column = data.split_column not in ("auto", "none")
    given = f"as column {data.split_column} of the data gives them" if of_column else "given as files of their own"
    if not drawn:
        return f", {given}" if of_column or not data.path else ""
    by = TASKS[run.spec.task].stratified_by
    how = (
        "at random" if data.path and not of_column else f"{' and '.join(drawn)} drawn from the training rows at random"
    )
    how = f"{given}, with {how}" if of_column else how
    if together := " and ".join(kept_together(run)):
        return f", {how}; {together} are in one split, and each {by} is spread over the splits as far as that allows"
    return f", {how}, stratified by {by}"


def kept_together(run: FinishedRun) -> list[str]:
    """List the rows that stay in one split; none if rows are drawn individually."""
    data = run.spec.data
    apart = data.group is not None and not any(groups_in_train(run, split) for split in ("val", "test"))
    groups = [f"all rows of one {data.group}"] if apart else []
    return [*groups, *(["identical samples"] if data.duplicates == "group" else [])]
