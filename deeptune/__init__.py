"""DeepTune: fine-tune pretrained image and text backbones on your own Parquet file.

    import deeptune

    deeptune.probe({"data.path": "scans.parquet"})    # which backbone fits these rows: a Ranking
    run = deeptune.finetune("run.toml")            # a RunSpec, a TOML file, a preset's name or a dictionary
    run.metrics["test"]["accuracy"]                # the run's files: metrics, events, report, predictions, embeddings

    model = deeptune.load(run)                     # a Run, the path of its folder, its id, or "latest"
    model.predict(["scan1.png", "scan2.png"])      # pyarrow.Table, one row for each sample
    model.embed(images)                            # numpy float32 (N, width)
    model.evaluate(images, labels)                 # the metrics that a run reports
    deeptune.load_backbone("resnet18").embed(images)    # pooled features of a plain backbone, without any run

    deeptune.compare([run, "runs/OTHER"])          # differences with paired intervals and p values
    run.explain(8)                                 # explain the worst predictions, and test the explanations
    deeptune.audit("data.parquet").findings        # what is wrong with data, before anything learns from it

`deeptune.sklearn` has estimators for scikit-learn. Every error that a person can act on is a `DeepTuneError`
(`deeptune.errors`). Names are imported when they are first used, so that `import deeptune` loads no library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeptune import errors as errors
    from deeptune import sklearn as sklearn
    from deeptune.api.audit import audit as audit
    from deeptune.api.backbone import load_backbone as load_backbone
    from deeptune.api.compare import compare as compare
    from deeptune.api.model import Model as Model
    from deeptune.api.probe import probe as probe
    from deeptune.api.run import Run as Run
    from deeptune.api.run import finetune as finetune
    from deeptune.api.run import load as load
    from deeptune.api.specs import load_spec as load_spec
    from deeptune.errors import DeepTuneError as DeepTuneError
    from deeptune.spec.run_spec import RunSpec as RunSpec

__version__ = "0.1.0"

__all__ = [
    "DeepTuneError",
    "Model",
    "Run",
    "RunSpec",
    "__version__",
    "audit",
    "compare",
    "errors",
    "finetune",
    "load",
    "load_backbone",
    "load_spec",
    "probe",
    "sklearn",
]

_MODULES = {
    "DeepTuneError": "deeptune.errors",
    "Model": "deeptune.api.model",
    "Run": "deeptune.api.run",
    "RunSpec": "deeptune.spec.run_spec",
    "audit": "deeptune.api.audit",
    "compare": "deeptune.api.compare",
    "finetune": "deeptune.api.run",
    "load": "deeptune.api.run",
    "load_backbone": "deeptune.api.backbone",
    "load_spec": "deeptune.api.specs",
    "probe": "deeptune.api.probe",
}


def __getattr__(name: str) -> Any:
    if name in ("errors", "sklearn"):
        return import_module(f"deeptune.{name}")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'deeptune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
