"""The first spec for a person's file: values that fit its columns and this machine, each with its reason."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import tomli_w

from deeptune.catalog import CATALOG, find, weights_on_this_machine
from deeptune.data.inspect import Overview, overview
from deeptune.data.sources.parquet import open_source
from deeptune.data.splits.class_names import LabelColumn
from deeptune.errors import DataError, listed
from deeptune.fetching import fetch_of
from deeptune.fetching.local import all_local_weights
from deeptune.spec.modalities import COLUMN_MODALITIES, MODALITIES, columns_of
from deeptune.spec.run_spec import RunSpec
from deeptune.spec.tasks import TASKS, USUAL_TASKS
from deeptune.spec.toml import validate
from deeptune.tasks.label_columns import missing

WIDTH = 100  # columns of comments


@dataclass(frozen=True)
class Proposal:
    """A value for a key of the spec, as a person would type it, and why.

    `choices` are the values that fit; of an `open` question there are others too.
    """

    key: str
    question: str
    value: str
    reason: str
    choices: tuple[str, ...] = ()
    open: bool = False


@dataclass(frozen=True)
class FirstSpec:
    """Proposals for a file, in the order in which they are asked for; `notes` say what was imported or left out."""

    path: str
    rows: int
    proposals: tuple[Proposal, ...]
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, str]:
        """The proposed values by key."""
        return {each.key: each.value for each in self.proposals}


def propose(path: str, given: Mapping[str, str]) -> FirstSpec:
    """Look at a file and propose a spec; `given` are values by key that are settled.

    Raises DataError for a file that can't be read or has no column that could be an input or a label.
    """
    found = overview(path)
    names = [column.name for column in found.columns]
    for key in ("data.input", "data.label", "data.group"):
        if key in given and given[key] and (absent := set(_columns(given[key])) - set(names)):
            raise DataError(
                f"{key}: there is no column {listed(sorted(absent))} in {path}", hint=f"It has: {listed(names)}."
            )
    modality, inputs = _input(found, given, path)
    label = given.get("data.label") or _label(found, inputs, path)
    task = given.get("task") or found.guesses.get("task", USUAL_TASKS["classes"])
    proposals = [
        Proposal("data.input", "Input column", inputs, f"holds {MODALITIES[modality].plural}", tuple(names)),
        Proposal("data.label", "Label column", label, "what the model learns to say", tuple(names)),
        Proposal("task", "Task", task, f"the labels are {TASKS[task].description}", tuple(TASKS)),
    ]
    group = given.get("data.group", found.groups[0] if found.groups else "")
    if group or found.groups:
        reason = "rows of one value stay in one split: otherwise test would hold what training has seen"
        proposals.append(
            Proposal("data.group", "Column of the patient or unit, empty for none", group, reason, ("", *names))
        )
    if without := rows_without_label(path, label, task):
        reason = f"{without:,} of {found.rows:,} rows have no label: they are left out, counted and listed"
        proposals.append(Proposal("data.on_bad_sample", "Rows that can't be used", "skip", reason, ("skip", "error")))
    members = MODALITIES[modality].members
    for key, member in zip(("backbone.name", "backbone.text.name"), members, strict=False):
        backbone = given.get(key) or usual_backbone(member.name)
        title = "Backbone" if len(members) == 1 else f"Backbone of the {member.plural}"
        proposals.append(Proposal(key, title, backbone, _where(backbone), tuple(_names(member.name)), open=True))
    proposals += [
        Proposal(
            "tuning.method",
            "Method",
            given.get("tuning.method", "partial"),
            "learns the head only: minutes on any machine, and the score that others have to beat",
            ("partial", "lora", "full"),
        ),
    ]
    return FirstSpec(path, found.rows, tuple(proposals), tuple(found.notes))


def _input(found: Overview, given: Mapping[str, str], path: str) -> tuple[str, str]:
    """Return the modality, and the input column or columns as a person types them."""
    by_name = {column.name: column.modality for column in found.columns}
    chosen = given.get("data.input") or found.guesses.get("data.input")
    if chosen is None:
        default = found.guesses.get("data.modality")
        usual = [name for name, one in COLUMN_MODALITIES.items() if one.input in by_name and default in (None, name)]
        single = [name for name, modality in by_name.items() if modality is not None]
        chosen = str(COLUMN_MODALITIES[usual[0]].input) if usual else single[0] if len(single) == 1 else None
    if chosen is None or (modality := by_name[_columns(chosen)[0]]) is None:
        raise DataError(
            f"data.input: {path} has no column of images or texts",
            hint=f"Name one with --input; it has: {listed(list(by_name))}.",
        )
    several = {by_name[column] for column in _columns(chosen)}
    return "image_text" if several == set(MODALITIES["image_text"].parts) else modality, chosen


def _label(found: Overview, inputs: str, path: str) -> str:
    names = [column.name for column in found.columns]
    label = found.guesses.get("data.label", "labels")
    if set(_columns(label)) <= set(names) - set(_columns(inputs)):
        return label
    raise DataError(
        f"data.label: no column of {path} looks like a label", hint=f"Name one with --label; it has: {listed(names)}."
    )


def rows_without_label(path: str, label: str, task: str) -> int:
    """Count the rows that have no label; 0 where none has one, which is an error of its own."""
    columns = _columns(label)
    with suppress(DataError):  # what is wrong with the column the survey says
        source = open_source(path)
        found = LabelColumn.read(source, columns if len(columns) > 1 else columns[0], task=task)
        absent = int(missing(found.values).sum())
        return absent if absent < source.num_rows else 0
    return 0


def _columns(text: str) -> list[str]:
    """Return the columns that a person typed: one, or a list as in TOML."""
    if not text.startswith("["):
        return columns_of(text)
    import tomllib

    return list(tomllib.loads(f"x = {text}")["x"])


def usual_backbone(modality: str) -> str:
    """Return a backbone whose weights are here, else the usual one of the modality."""
    return next(iter(_local(modality)), MODALITIES[modality].usual_backbone)  # type: ignore[index]


def _local(modality: str) -> list[str]:
    return [each.name for each in all_local_weights() if find(each.name).modality == modality]


def _names(modality: str) -> list[str]:
    here = _local(modality)
    return here + [row.name for row in CATALOG.values() if row.modality == modality and row.name not in here]


def _where(backbone: str) -> str:
    info = find(backbone)
    if weights_on_this_machine(info) is not None:
        return "its pretrained weights are on this machine"
    fetch = fetch_of(info)
    return fetch.text if fetch is not None else "pretrained"


def spec_of(first: FirstSpec, answers: Mapping[str, str]) -> RunSpec:
    """Validate the answers as a spec. Raises SpecError."""
    return validate(_nested(first, answers))


def _nested(first: FirstSpec, answers: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {"task": answers["task"], "data": {"path": first.path}}
    for key, text in answers.items():
        section, _, name = key.partition(".")
        if name and text:
            columns = _columns(text) if key in ("data.input", "data.label") else [text]
            values.setdefault(section, {})[name] = columns if len(columns) > 1 else columns[0]
    return values


def commented_text(first: FirstSpec, answers: Mapping[str, str]) -> str:
    """Write the spec as TOML with a comment above each key, and the keys that people change next."""
    values = _nested(first, answers)
    reasons = {each.key: each.reason for each in first.proposals if answers.get(each.key) == each.value}
    lines = [*_comment(f"Made for {first.path}, {first.rows:,} rows. Check it: deeptune run THIS.toml --dry-run"), ""]
    lines += [*_comment(f"{_listed_tasks()}."), *_assignment("task", values["task"])]
    for section in ("data", "backbone", "tuning"):
        lines += ["", f"[{section}]"]
        for name, value in values[section].items():
            if reason := reasons.get(f"{section}.{name}"):
                lines += _comment(f"{reason[0].upper()}{reason[1:]}.".replace("..", "."))
            lines += _assignment(name, value)
        lines += [f"# {line}" for line in _more(section, values)]
    return "\n".join(lines) + "\n"


def _listed_tasks() -> str:
    return "; ".join(f"{name}: {info.description}" for name, info in TASKS.items())


def _more(section: str, values: Mapping[str, Any]) -> list[str]:
    """List the keys that are not set, with their defaults, for the next step."""
    if section == "data":
        group = [] if "group" in values["data"] else ['group = "patient_id"   # rows of one value stay in one split']
        bad = ['on_bad_sample = "skip"    # counted and listed; "error" ends the run']
        bad = [] if "on_bad_sample" in values["data"] else bad
        return [
            *group,
            "split = { train = 0.7, val = 0.1, test = 0.2 }",
            *bad,
        ]
    if section == "tuning":
        return ['method = "lora"   # adapters in the backbone', 'method = "full"   # every weight']
    return []


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False)]


def _assignment(name: str, value: Any) -> list[str]:
    return tomli_w.dumps({name: value}).strip().splitlines()
