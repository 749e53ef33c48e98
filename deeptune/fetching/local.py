"""The pretrained weights that are on this machine, with the files of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deeptune.catalog import (
    CATALOG,
    LITE0_PACKAGE,
    TORCHVISION_LOADER,
    BackboneInfo,
    hf_hub_dir,
    torch_hub_dir,
    weight_file,
    weights_on_this_machine,
)
from deeptune.fetching.hub_files import MODEL_CARD, licence_in, needed_files
from deeptune.fetching.licences import licence_of


@dataclass(frozen=True)
class LocalWeights:
    """Weights on this machine, under the name that a spec calls them by.

    `root` is the folder of the library's cache to which the paths of `files` are relative; None where they are in a
    package or in a person's own folder. `commit` is that of a hub's repository. `path` is the file of the weights, the
    first one where there are several.
    """

    name: str
    origin: str
    path: Path
    files: tuple[Path, ...]
    root: Path | None = None
    commit: str | None = None
    licence: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)


def local_weights(info: BackboneInfo) -> LocalWeights | None:
    """Return the weights of a backbone on this machine, or None."""
    path = weights_on_this_machine(info)
    if path is None:
        return None
    if info.name == "efficientnet_lite0":
        return LocalWeights(info.name, LITE0_PACKAGE, path, (path,), licence=licence_of(info))
    if info.loader == TORCHVISION_LOADER:
        return LocalWeights(info.name, "torchvision", path, (path,), torch_hub_dir(), licence=licence_of(info))
    if info.family == "hf" and Path(info.source).expanduser().is_dir():
        folder = Path(info.source).expanduser()
        return LocalWeights(info.name, "a folder", path, tuple(needed_files(folder)))
    return _of_snapshot(info.name, path, licence_of(info))


def all_local_weights() -> list[LocalWeights]:
    """List the weights on this machine: those of the catalog, then others in the cache of the Hugging Face hub."""
    named = [found for info in CATALOG.values() if (found := local_weights(info)) is not None]
    known = {found.path for found in named}
    return named + [found for found in _other_repositories() if found.path not in known]


def _other_repositories() -> Iterator[LocalWeights]:
    for snapshot in sorted(hf_hub_dir().glob("models--*/snapshots/*")):
        repository = snapshot.parents[1].name.removeprefix("models--").replace("--", "/", 1)
        path = weight_file(snapshot)
        if path is None or not (snapshot / "config.json").is_file():
            continue
        prefix, rest = (
            ("timm", repository.removeprefix("timm/")) if repository.startswith("timm/") else ("hf", repository)
        )
        yield _of_snapshot(f"{prefix}:{rest}", path, None)


def _of_snapshot(name: str, path: Path, licence: str | None) -> LocalWeights:
    snapshot = path.parent
    return LocalWeights(
        name,
        "HF hub",
        path,
        tuple(needed_files(snapshot)),
        hf_hub_dir(),
        snapshot.name,
        licence or licence_in(snapshot / MODEL_CARD),
    )
