"""The run spec: everything that a run is to do. It needs no torch.

Names are imported when they are first used: the rows of metrics and tasks, which every command reads, need no pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeptune.spec.run_spec import RunSpec as RunSpec
    from deeptune.spec.toml import dump_spec as dump_spec
    from deeptune.spec.toml import load_spec as load_spec

__all__ = ["RunSpec", "dump_spec", "load_spec"]

_MODULES = {"RunSpec": "run_spec", "dump_spec": "toml", "load_spec": "toml"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
