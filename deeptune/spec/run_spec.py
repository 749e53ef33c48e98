"""RunSpec: everything that can be run, validated and frozen.

Field descriptions are the help that the command line, the JSON Schema and the forms show, so they
are written for the person who fills them in. `"auto"` values are resolved by `spec.defaults`.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from deeptune.spec.calibration_spec import CalibrationSpec
from deeptune.spec.data_spec import BadSamplePolicy, DataSpec, SplitSpec
from deeptune.spec.metrics import METRICS
from deeptune.spec.model_spec import BackboneSpec, HeadSpec, LoraSpec, Method, TextBackboneSpec, TuningSpec
from deeptune.spec.report_spec import ReportSpec
from deeptune.spec.tasks import TASKS, USUAL_TASKS, TaskName
from deeptune.spec.train_spec import EarlyStoppingSpec, TrainSpec
from deeptune.spec.values import SPLITS, Paths, Section, Split

__all__ = [
    "SPLITS",
    "BackboneSpec",
    "BadSamplePolicy",
    "CalibrationSpec",
    "DataSpec",
    "EarlyStoppingSpec",
    "EmbedSpec",
    "HeadSpec",
    "LoraSpec",
    "Method",
    "Paths",
    "ReportSpec",
    "RunSpec",
    "Split",
    "SplitSpec",
    "TextBackboneSpec",
    "TrainSpec",
    "TuningSpec",
]


def _all_splits() -> list[Split]:
    return ["train", "val", "test"]


class EmbedSpec(Section):
    """Embeddings that a run writes when training is done."""

    splits: list[Split] = Field(default_factory=_all_splits, description="Splits to embed; [] for none.")


class RunSpec(Section):
    """One run: what to learn, from which data, with which backbone and how."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Start of the run's id; letters, digits, `.`, `_` and `-`.",
    )
    task: TaskName = Field(
        USUAL_TASKS["classes"],
        description=f"{', '.join(f'`{name}` ({info.description})' for name, info in sorted(TASKS.items()))}.",
    )
    data: DataSpec = Field(description="Name a file: data.path = 'scans.parquet'.")
    backbone: BackboneSpec = Field(
        description="Name it: backbone.name = 'resnet50'. `deeptune backbones` lists them, `deeptune probe` ranks them."
    )
    head: HeadSpec = Field(default_factory=HeadSpec)  # type: ignore[arg-type]
    tuning: TuningSpec = Field(default_factory=TuningSpec)  # type: ignore[arg-type]
    train: TrainSpec = Field(default_factory=TrainSpec)  # type: ignore[arg-type]
    calibration: CalibrationSpec = Field(default_factory=CalibrationSpec)  # type: ignore[arg-type]
    embed: EmbedSpec = Field(default_factory=EmbedSpec)
    report: ReportSpec = Field(default_factory=ReportSpec)  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _parts_fit_the_task(self) -> RunSpec:
        problems = []
        info, train = TASKS[self.task], self.train
        exact = ("out_of_fold_loss",) if train.solver == "exact" else ()
        names = dict.fromkeys(("loss", info.tuned_metric, *exact, *info.metrics))
        known = [f"val/{name}" for name in names if METRICS[name].chooses]
        metric = train.early_stopping.metric
        if metric != "auto" and metric not in known:
            problems.append(
                f"train.early_stopping.metric: {metric!r} is not a metric of {self.task}; choose one of "
                + ", ".join(known)
            )
        if train.loss != "auto" and train.loss not in info.losses:
            needs = next(other.description for other in TASKS.values() if train.loss in other.losses)
            takes = " or ".join(map(repr, info.losses))
            problems.append(f"train.loss: {train.loss!r} needs {needs}; {self.task} takes {takes}")
        if train.class_weights != "none" and not info.class_weights:
            problems.append(f"train.class_weights: {self.task} has no classes; leave it out")
        if train.label_smoothing and not info.label_smoothing:
            problems.append(f"train.label_smoothing: {self.task} has no classes; leave it out")
        problems += self._mixes_without_pairs()
        problems += self._why_no_cross_validation()
        problems += self._why_no_exact_minimum()
        if self.data.label_order is not None and not info.ordered:
            problems.append(f"data.label_order: the classes of {self.task} have no order; leave it out")
        if info.view == "numbers":
            for key in ("positive", "operating_point", "prevalence"):
                if getattr(self.report, key) != ReportSpec.model_fields[key].default:
                    problems.append(f"report.{key}: {self.task} has no classes; leave it out")
            if self.report.unit_rule == "vote":
                problems.append(f"report.unit_rule: {self.task} has no classes to vote for; use 'mean' or 'max'")
        if isinstance(self.data.label, list) and not info.several_columns:
            problems.append(f"data.label: {self.task} takes one column, got {self.data.label!r}")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _why_no_cross_validation(self) -> list[str]:
        """Say why heads can't be cross-validated, where that is asked for."""
        if self.train.val != "cv":
            return []
        instead = "leave it out, or set train.val = 'split'"
        if not self.tuning.frozen:
            learns = f"tuning.unfreeze = {self.tuning.unfreeze}" if self.tuning.unfreeze else f"{self.tuning.method!r}"
            return [
                f"train.val: 'cv' trains many heads on the features of a frozen backbone, and with {learns} the "
                "backbone learns; set train.val = 'split', or tuning.method = 'partial' without unfreeze"
            ]
        if self.train.augmentation != "none":
            return [f"train.augmentation: train.val = 'cv' trains heads on stored features of plain images; {instead}"]
        if self.train.tune:
            return [f"train.tune: train.val = 'cv' trains heads on stored features, where nothing is tuned; {instead}"]
        return []

    def _why_no_exact_minimum(self) -> list[str]:
        """Say why a head has no exact minimum, where that is asked for."""
        if self.train.solver != "exact":
            return []
        instead = "leave it out, or set train.solver = 'steps'"
        learns = "the backbone learns" if not self.tuning.frozen else None
        two = "it has two layers" if self.head.layers != 1 else None
        drops = "head.dropout is random" if self.head.dropout else None
        ordered = "the thresholds of ordered classes are not a linear layer" if TASKS[self.task].ordered else None
        views = "train.augmentation is random" if self.train.augmentation != "none" else None
        average = "train.average is one of steps" if self.train.average in ("soup", "ema") else None
        reason = next((one for one in (learns, two, drops, ordered, views, average) if one), None)
        if reason is None:
            return []
        return [
            f"train.solver: 'exact' finds the minimum of one linear layer on frozen features, and {reason}; {instead}"
        ]

    def _mixes_without_pairs(self) -> list[str]:
        """Say why images can't be mixed, for each key that asks for it."""
        keys = [key for key in ("mixup", "cutmix") if getattr(self.train, key)]
        if not TASKS[self.task].label_smoothing:  # a target is one class, never a share of several
            return [f"train.{key}: {self.task} has no classes that could be mixed; leave it out" for key in keys]
        if self.tuning.method == "partial":
            return [
                f"train.{key}: a frozen backbone passes each image once, so none can be mixed; leave it out, or set "
                "tuning.method = 'full' or 'lora'"
                for key in keys
            ]
        return []
