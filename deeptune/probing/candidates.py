"""The backbones that a probe compares. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deeptune.catalog import CATALOG, find
from deeptune.errors import SpecError, listed
from deeptune.fetching.local import all_local_weights
from deeptune.spec.run_spec import BackboneSpec

ANY_BACKBONE = "?"  # the name of the backbone in a spec that leaves it open

RANDOM = "=random"  # what follows a name of which random weights are asked for


@dataclass(frozen=True)
class Candidate:
    """A backbone with its weights: `pretrained`, `random` or a path."""

    name: str
    weights: str = "pretrained"

    @property
    def pretrained(self) -> bool:
        """Whether the weights are said to be learned."""
        return self.weights != "random"

    @property
    def title(self) -> str:
        """The name, as it is typed."""
        return self.name if self.pretrained else f"{self.name}{RANDOM}"

    def backbone_spec(self, spec: BackboneSpec) -> BackboneSpec:
        """Return the section of a spec with this backbone in it."""
        return spec.model_copy(update={"name": self.name, "weights": self.weights})


def named_candidates(names: Iterable[str], modality: str) -> list[Candidate]:
    """Return the backbones that someone names, each once.

    `NAME=random` has random weights. Raises WeightsError for an unknown name, and SpecError for a backbone of another
    modality.
    """
    found = []
    for name in names:
        candidate = Candidate(name.removesuffix(RANDOM), "random" if name.endswith(RANDOM) else "pretrained")
        require_modality(candidate, modality)
        found.append(candidate)
    return list(dict.fromkeys(found))


def require_modality(candidate: Candidate, modality: str) -> None:
    """Raise SpecError where a backbone does not read such data."""
    info = find(candidate.name)
    if info.modality != modality:
        raise SpecError(
            f"--backbone: {candidate.name!r} is a backbone for {info.modality}, but the data is {modality}",
            hint=f"`deeptune backbones --modality {modality}` lists those that fit.",
        )


def local_candidates(modality: str) -> list[Candidate]:
    """List the backbones of a modality whose pretrained weights are on this machine, the smallest first.

    Raises SpecError where there is none.
    """
    found = [weights for weights in all_local_weights() if find(weights.name).modality == modality]
    if not found:
        usual = [row.name for row in CATALOG.values() if row.modality == modality]
        raise SpecError(
            f"no pretrained weights of a backbone for {modality} are on this machine",
            hint=f"`deeptune weights fetch` brings some, such as {listed(usual, most=3)}; or name backbones with "
            "--backbone, also a folder: hf:FOLDER.",
        )
    return [Candidate(weights.name) for weights in sorted(found, key=lambda weights: weights.size)]
