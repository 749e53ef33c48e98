"""The facts about a draft: its run, size and problems. Nothing here reads data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deeptune.catalog import CATALOG, BackboneInfo
from deeptune.errors import DeepTuneError
from deeptune.show.devices import Device, chosen_device
from deeptune.spec import RunSpec
from deeptune.spec.backbone_info import backbone_info, require_fitting
from deeptune.spec.defaults import HeadSize, absolute, resolve, run_name
from deeptune.spec.estimate import Counts, Memory, count_parameters, count_steps, estimate_memory
from deeptune.spec.modalities import MODALITIES, columns_of
from deeptune.spec.run_spec import BackboneSpec, TextBackboneSpec
from deeptune.spec.tasks import TASKS
from tui.draft import Draft, Problem

CHARACTERS_PER_TOKEN = 4  # characters of a token of English text, roughly: for the guess of the longest text


@dataclass
class Data:
    """The inspector's answers about the files so far: `overview` and `survey` of `deeptune.data.inspect`."""

    overview: dict[str, Any] | None = None
    survey: dict[str, Any] | None = None
    problem: Problem | None = None
    reading: str = ""
    audit: dict[str, Any] | None = None  # the report of `deeptune.auditing`
    auditing: str = ""  # what the audit is doing, or why there is none

    @property
    def modality(self) -> str | None:
        return self.survey["modality"] if self.survey else None

    @property
    def outputs(self) -> int | None:
        """Logits of the head, as the task counts them."""
        return self.survey["outputs"] if self.survey else None

    @property
    def predicted(self) -> str:
        """What one row is given, where that is several: `3 classes`, `4 labels`, `2 numbers`."""
        if self.survey is None:
            return ""
        count = len(self.survey["classes"]) or self.survey["outputs"]
        return f"{count} {TASKS[self.survey['task']].view}" if count > 1 else ""

    @property
    def train_rows(self) -> int | None:
        return self.survey["rows"]["train"] if self.survey else None


@dataclass
class Facts:
    """The meaning of a draft: its spec, the facts about backbone, data and device, and its problems."""

    spec: RunSpec | None = None
    resolved: RunSpec | None = None
    info: BackboneInfo | None = None
    outputs: int | None = None
    predicted: str = ""
    rows: int | None = None
    counts: Counts | None = None
    steps: int | None = None
    memory: Memory | None = None
    device: Device | None = None
    problems: list[Problem] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)  # what `"auto"` stands for, by key
    standing: dict[str, str] = field(default_factory=dict)  # what other keys stand for while they are left out

    @property
    def exact(self) -> bool:
        """Whether the head is found as an exact minimum, without steps."""
        return self.resolved is not None and self.resolved.train.solver == "exact"

    def problem_of(self, key: str) -> Problem | None:
        return next((problem for problem in self.problems if problem.key == key), None)


def work_out(draft: Draft, data: Data, devices: list[Device]) -> Facts:
    """Compute the facts about a draft."""
    facts = Facts(problems=draft.problems(), outputs=data.outputs, rows=data.train_rows)
    facts.predicted = data.predicted
    if data.problem is not None:
        facts.problems.append(Problem(draft.field_of(data.problem.key), data.problem.message, data.problem.hint))
    facts.standing = _standing(data)
    if name := draft.text("backbone.name"):
        try:
            text = draft.text("backbone.text.name")
            named = BackboneSpec.model_validate({"name": name, "text": {"name": text} if text else None})
            facts.info = backbone_info(named)
            if data.survey is not None:
                require_fitting(named, facts.info, data.survey["modality"], data.survey["input"])
        except DeepTuneError as error:
            facts.problems.append(Problem.of(error.message, error.hint, key="backbone.name"))
    info = facts.info
    if info is None or draft.problems():
        return facts
    facts.spec = draft.spec()
    facts.resolved = _resolved(facts.spec, info, facts.rows, facts.outputs)
    facts.standing["name"] = run_name(facts.spec)
    facts.hints = _hints(draft, facts.resolved)
    facts.device = chosen_device(facts.spec.train.device, devices)
    if facts.outputs is not None:
        facts.counts = count_parameters(facts.spec, info, facts.outputs)
        on_gpu = facts.device is not None and facts.device.name != "cpu"
        facts.memory = estimate_memory(facts.spec, info, facts.outputs, on_gpu=on_gpu, tokens=_longest(data))
    if facts.rows and not facts.exact:
        facts.steps = count_steps(facts.spec, info, facts.rows)
    return facts


def _standing(data: Data) -> dict[str, str]:
    """Return the columns that the data suggest for those that were not named."""
    standing = {}
    if data.survey is not None:
        standing["data.input"] = ", ".join(columns_of(data.survey["input"]))
    if data.overview is not None and data.overview["groups"]:
        standing["data.group"] = f"unset; {data.overview['groups'][0]} may be one"
    return standing


def _resolved(spec: RunSpec, info: BackboneInfo, rows: int | None, outputs: int | None) -> RunSpec:
    """Resolve the `"auto"`s that the catalog and the recipes know. The run resolves the rest."""
    if not all(member.name in CATALOG for member in info.members):
        return absolute(spec, info)
    size = HeadSize(rows, info.width, outputs) if rows and info.width and outputs else None
    resolved = resolve(spec, info, cnn=info.is_cnn, rows=rows or 1, size=size)
    if rows is None and spec.train.weight_decay == "auto":  # it depends on them
        resolved = resolved.model_copy(update={"train": resolved.train.model_copy(update={"weight_decay": "auto"})})
    backbone, tuning = resolved.backbone, resolved.tuning
    updates = [_known(part, row) for part, row in zip(backbone.members.values(), info.members, strict=True)]
    whole = dict(updates[0])
    if backbone.text is not None:
        whole["text"] = backbone.text.model_copy(update=updates[1])
    lora = tuning.lora
    if tuning.method == "lora":
        rank = info.lora_rank if lora.rank == "auto" else lora.rank
        alpha = 2.0 * rank if lora.alpha == "auto" else lora.alpha
        lora = lora.model_copy(update={"rank": rank, "alpha": alpha})
    return resolved.model_copy(
        update={
            "backbone": backbone.model_copy(update=whole),
            "tuning": tuning.model_copy(update={"lora": lora}),
        }
    )


def _known(part: BackboneSpec | TextBackboneSpec, info: BackboneInfo) -> dict[str, Any]:
    """Return what the catalog knows of a backbone's `"auto"`s."""
    found: dict[str, Any] = {"pooling": info.pooling} if part.pooling == "auto" and info.pooling is not None else {}
    if isinstance(part, BackboneSpec) and part.image_size == "auto" and MODALITIES[info.modality].size == "image_size":
        found["image_size"] = info.input_size
    return found


def _hints(draft: Draft, resolved: RunSpec) -> dict[str, str]:
    """Return the values that `"auto"` stands for, by key."""
    hints = {}
    for key, one in draft.fields.items():
        if draft.value(key) != "auto":
            continue
        value: Any = resolved
        for part in key.split("."):
            value = getattr(value, part, "auto")
        if value != "auto":
            hints[key] = one.show(value)
    return hints


def _longest(data: Data) -> int:
    lengths = (data.survey or {}).get("lengths")
    return max(2, lengths[2] // CHARACTERS_PER_TOKEN) if lengths else 512
