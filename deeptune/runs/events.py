"""The kinds of events in a run's log: what each of them says, and its form as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, ClassVar, get_type_hints

from deeptune.runs.files import MAX_NUMBER, fits

VERSION = 1
MAX_TIME = 253402300800  # the year 10000, in seconds since 1970
Number = float | None  # None where a number was not finite
Scores = Mapping[str, Number]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    `t` is the time in seconds since 1970, and `seq` counts the events of a log from 1; the writer of the log sets both.
    A field without a default is always written. One with a default is written when it has another value.
    """

    kind: ClassVar[str]
    t: float = field(default=0.0, kw_only=True)
    seq: int = field(default=0, kw_only=True)

    def content(self) -> dict[str, Any]:
        """Return the content of the event as JSON: everything but its kind, number and time."""
        values = asdict(self)
        return {one.name: values[one.name] for one in _fields(type(self)) if values[one.name] != one.default}

    def to_json(self) -> dict[str, Any]:
        """Return the event as its line in the log says it."""
        return {"v": VERSION, "seq": self.seq, "t": self.t, "kind": self.kind, **self.content()}


@dataclass(frozen=True)
class RunEvent(Event):
    """An attempt at the run starts: the first one, or one that resumes it."""

    kind = "run"
    id: str = ""
    started: float | None = None
    pid: int | None = None


@dataclass(frozen=True)
class PhaseEvent(Event):
    """The run enters a phase, such as `data` or `train`."""

    kind = "phase"
    phase: str


@dataclass(frozen=True)
class Rows:
    """The number of rows of each split."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Parameters:
    """The number of parameters of a model."""

    trainable: int
    total: int


@dataclass(frozen=True)
class StartEvent(Event):
    """Everything is known that training needs: what is trained, on what, and where."""

    kind = "start"
    backbone: str
    weights: str
    method: str
    device: str
    device_reason: str
    steps: int
    rows: Rows
    parameters: Parameters
    task: str = ""
    epochs: int | None = None
    metric: str = ""  # of early stopping, as `val/loss`
    patience: int | None = None


@dataclass(frozen=True)
class ResumeEvent(Event):
    """Training continues after `step`, in `epoch`."""

    kind = "resume"
    step: int
    epoch: int


@dataclass(frozen=True)
class StepEvent(Event):
    """The state of training after a step; not every step has an event.

    `rate` is in rows per second, `waiting` the share of the epoch's time in which training waited for data, and
    `memory` in GiB. A head that is found as an exact minimum has neither learning rate nor gradient norm.
    """

    kind = "step"
    step: int
    epoch: int
    epoch_step: int
    epoch_steps: int
    epochs: int
    loss: Number
    rate: Number
    waiting: Number
    learning_rate: Number = None
    gradient_norm: Number = None
    memory: Scores | None = None


@dataclass(frozen=True)
class EpochEvent(Event):
    """An epoch is complete: its mean training loss, and the metrics of val where there is such a split."""

    kind = "epoch"
    epoch: int
    epochs: int
    train: Scores
    learning_rate: float | None = None
    seconds: float | None = None
    skipped_steps: int | None = None
    val: Scores | None = field(default=None, metadata={"checked": True})
    best: bool | None = None


@dataclass(frozen=True)
class CheckpointEvent(Event):
    """A checkpoint is on the disk: `best` with its metric, or `last` with its step."""

    kind = "checkpoint"
    which: str
    epoch: int
    step: int | None = None
    metric: str = ""
    value: Number = None
    mean: list[int] | None = None  # the epochs whose mean weights the best one has

    def content(self) -> dict[str, Any]:
        """Return the event as JSON. The best checkpoint has a value also where there is no val split."""
        return super().content() | ({"value": self.value} if self.which == "best" else {})


@dataclass(frozen=True)
class Gpu:
    """The state of a GPU: use in percent, temperature in °C, memory in GiB, power, and the share of its fastest clock.

    `number` is CUDA's. What a GPU does not tell is None.
    """

    utilisation: Number = None
    temperature: Number = None
    memory_gib: Number = None
    total_gib: Number = None
    power_watts: Number = None
    power_limit_watts: Number = None
    clock_share: Number = None
    number: Number = None

    @classmethod
    def from_json(cls, value: Any) -> Gpu:
        """Read what is a number, and nothing else."""
        found = value if isinstance(value, dict) else {}
        return cls(**{one.name: found[one.name] for one in fields(cls) if fits(float, found.get(one.name, ""))})


@dataclass(frozen=True)
class SampleEvent(Event):
    """The machine at a moment: memory in GiB and the processor in percent of one core."""

    kind = "sample"
    process_gib: Number
    free_gib: Number
    cpu_percent: float | None = None
    gpus: tuple[Gpu, ...] = ()

    def content(self) -> dict[str, Any]:
        """Return the event as JSON; of a GPU what it tells."""
        found = super().content()
        gpus = [{name: value for name, value in gpu.items() if value is not None} for gpu in found.pop("gpus", ())]
        return {**found, "gpus": gpus} if gpus else found


@dataclass(frozen=True)
class WarningEvent(Event):
    """Something that a person should know about."""

    kind = "warning"
    message: str


@dataclass(frozen=True)
class MessageEvent(Event):
    """Something that a person may want to know."""

    kind = "message"
    message: str


@dataclass(frozen=True)
class StoppingEvent(Event):
    """The run was asked to stop, and will do so after the step in progress."""

    kind = "stopping"
    reason: str


@dataclass(frozen=True)
class MetricsEvent(Event):
    """The headline metrics of a split, from the best model."""

    kind = "metrics"
    split: str
    metrics: Scores


@dataclass(frozen=True)
class EndEvent(Event):
    """The run is over: `done` with the metrics of test, or `stopped` or `failed` with the reason."""

    kind = "end"
    state: str
    message: str | None = None
    test: Scores | None = None


@dataclass(frozen=True)
class UnknownEvent(Event):
    """An event of a kind that another version of DeepTune writes."""

    kind = ""
    name: str
    values: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """Return the event as it was read."""
        return self.values

    def to_json(self) -> dict[str, Any]:
        """Return the event as its line in the log says it."""
        return {**super().to_json(), "kind": self.name}


KINDS: dict[str, type[Event]] = {
    one.kind: one
    for one in (
        RunEvent, PhaseEvent, StartEvent, ResumeEvent, StepEvent, EpochEvent, CheckpointEvent, SampleEvent,
        WarningEvent, MessageEvent, StoppingEvent, MetricsEvent, EndEvent,
    )
}  # fmt: skip


def event_from_json(record: dict[str, Any]) -> Event | None:
    """Read an event from a JSON object that has `seq`, `t` and `kind`.

    Returns None when a field without a default is missing or of another type: a damaged file must not bring a viewer
    down. A field with a default that is of another type keeps the default. Other keys are passed over, and another
    kind is an UnknownEvent.
    """
    kind, t = record["kind"], record["t"]
    if not (isinstance(kind, str) and isinstance(t, (int, float)) and 0 <= t < MAX_TIME):
        return None
    readers = _READERS.get(kind)
    if readers is None:
        values = {key: value for key, value in record.items() if key not in ("v", "seq", "t", "kind")}
        return UnknownEvent(kind, values, t=t, seq=record["seq"])
    found = {"t": t, "seq": record["seq"]}
    for name, usual, read, required in readers:
        value: Any = record.get(name)
        if type(value) is usual and (usual is str or -MAX_NUMBER <= value <= MAX_NUMBER):
            found[name] = value  # without a call of its own: logs are long
            continue
        value = read(value)
        if value is not _WRONG:
            found[name] = value
        elif required:
            return None
    # A frozen dataclass sets its fields one by one, which takes longer than all of the above.
    event = object.__new__(KINDS[kind])
    event.__dict__.update(found)
    return event


_WRONG = object()
_Reader = Callable[[Any], Any]  # the value of a field, or _WRONG


def _fitting(shape: Any) -> _Reader:
    return lambda value: value if fits(shape, value) else _WRONG


def _scores(value: Any) -> Any:
    if not isinstance(value, dict):
        return _WRONG
    for number in value.values():
        if not (type(number) is float and -MAX_NUMBER <= number <= MAX_NUMBER) and not fits(float, number):
            return _WRONG
    return value


def _counts(kind: type[Any]) -> _Reader:
    shape = get_type_hints(kind)
    return lambda value: kind(**{name: value[name] for name in shape}) if fits(shape, value) else _WRONG


def _whole_numbers(value: Any) -> Any:
    return value if isinstance(value, list) and all(fits(int, one) for one in value) else _WRONG


_BY_TYPE: dict[Any, _Reader] = {
    str: _fitting(str),
    str | None: _fitting(str),
    int: _fitting(int),
    int | None: _fitting(int),
    list[int] | None: _whole_numbers,
    Number: _fitting(float),
    bool | None: lambda value: value if isinstance(value, bool) else _WRONG,
    Scores: _scores,
    Scores | None: lambda value: value if value is None else _scores(value),
    Rows: _counts(Rows),
    Parameters: _counts(Parameters),
    tuple[Gpu, ...]: lambda value: tuple(map(Gpu.from_json, value)) if isinstance(value, list) else _WRONG,
}


def _readers(kind: type[Event]) -> list[tuple[str, Any, _Reader, bool]]:
    """Return each field of a kind: its name, usual type, the reader of other values, and whether it must be right."""
    hints, found = get_type_hints(kind), []
    for one in _fields(kind):
        usual: Any = {str: str, int: int, Number: float}.get(hints[one.name])
        required = one.default is MISSING or "checked" in one.metadata
        found.append((one.name, usual, _BY_TYPE[hints[one.name]], required))
    return found


def _fields(kind: type[Event]) -> list[Field[Any]]:
    return [one for one in fields(kind) if one.name not in ("t", "seq")]


_READERS = {name: _readers(kind) for name, kind in KINDS.items()}
