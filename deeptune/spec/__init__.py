"""The run spec: what a run is asked to do. No torch here."""

from deeptune.spec.model import RunSpec
from deeptune.spec.toml import dump_spec, load_spec

__all__ = ["RunSpec", "dump_spec", "load_spec"]
