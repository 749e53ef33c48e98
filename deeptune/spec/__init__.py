"""The run spec: everything that a run is to do. It needs no torch."""

from deeptune.spec.run_spec import RunSpec
from deeptune.spec.toml import dump_spec, load_spec

__all__ = ["RunSpec", "dump_spec", "load_spec"]
