"""Downloads one file over HTTP: resumed where it was cut, checked against its hash, there whole or not at all."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deeptune.errors import WeightsError
from deeptune.formatting import size_text
from deeptune.runs.files import file_sha256

TIMEOUT = 10  # seconds without a byte: a machine without network must hear so soon
MAX_CUTS = 5  # connections that end early and bring nothing new
CHUNK = 1 << 20
# torch.hub's custom: the name of a file ends with the first digits of its SHA-256.
_HASH_IN_NAME = re.compile(r"-([a-f0-9]{8,})\.")


class _NoRoom(OSError):
    """The disk has too little room for a file."""


def hash_in_name(name: str) -> str | None:
    """Return the first digits of the SHA-256 that a file's name holds, as in `resnet18-f37072fd.pth`."""
    found = _HASH_IN_NAME.search(name)
    return found.group(1) if found else None


def download(url: str, path: Path) -> Path:
    """Fetch `url` into `path`, unless that is there, with a progress bar where stderr is a terminal.

    What came of a file before a connection was cut stays beside it as `NAME.part`, and the next attempt resumes there.
    The content must have the hash in the name, where there is one. Raises WeightsError.
    """
    if path.is_file():
        return path
    digest = hash_in_name(path.name)
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path) as part:
            if not path.is_file():  # another process was faster
                if digest is None:  # no proof that an old part belongs to the file of today
                    part.unlink(missing_ok=True)
                _fetch_rest(url, part)
                _require_hash(url, part, digest)
                part.replace(path)
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        _remove_empty(path, made)
        raise failed(url, path, reason(error)) from error
    return path


def failed(url: str, path: Path, why: str) -> WeightsError:
    """Return the error of a download: what, why, and what to do."""
    return WeightsError(
        f"Pretrained weights {path.name} are not on this machine, and fetching them failed: {why}.\n"
        f"Looked for: {path}\nComes from: {url}",
        hint=f"Fetch {url} on a machine that can, and put it at {path} (`deeptune weights pack` and `unpack` do that; "
        'or give its path as backbone.weights). Or train from random weights with backbone.weights = "random".',
    )


def reason(error: BaseException) -> str:
    """Return why a connection failed, as the end of a sentence."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    cause = getattr(error, "reason", None) or error.__cause__ or error
    text = str(cause).strip().splitlines()
    return (text[0][:200] if text else type(cause).__name__).rstrip(".")


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """Give the name of the part, to one process at a time."""
    part = path.with_name(f"{path.name}.part")
    with open(path.with_name(f"{path.name}.lock"), "a") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        except (ImportError, OSError):  # not on Windows, nor on every network file system
            pass
        yield part
        Path(lock.name).unlink(missing_ok=True)  # not after a failure: who waits for it would be alone no more


def _remove_empty(path: Path, made: list[Path]) -> None:
    """Remove the lock and the folders that were made for a file of which nothing came."""
    if path.with_name(f"{path.name}.part").exists():
        return
    with suppress(OSError):
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()


def _fetch_rest(url: str, part: Path) -> None:
    """Append what is missing of a file; a connection that is cut is taken up again where it ended."""
    cuts = 0
    while True:
        before = _size(part)
        try:
            total = _append(url, part)
            if total is None or _size(part) == total:
                return
            problem: Exception = ConnectionError(
                f"the connection was cut after {size_text(_size(part))} of {size_text(total)}; they are kept, and the "
                "next attempt resumes there"
            )
        except (urllib.error.HTTPError, _NoRoom):
            raise
        except (OSError, http.client.HTTPException) as error:
            if not before and not _size(part):
                raise  # no network: nothing came at all
            problem = error
        cuts = 0 if _size(part) > before else cuts + 1
        if cuts >= MAX_CUTS:
            raise problem
        time.sleep(min(0.2 * 2**cuts, 5))


def _append(url: str, part: Path) -> int | None:
    """Ask for the bytes after those of the part, and append what comes; returns the size of the whole file."""
    from tqdm import tqdm

    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer: Any = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        part.unlink()  # longer than the file: another one
        return _append(url, part)
    with answer:
        resumed = have and answer.status == http.client.PARTIAL_CONTENT
        length = answer.headers.get("Content-Length")
        total = None if length is None else int(length) + (have if resumed else 0)
        _require_room(part, total, have)
        bar = tqdm(desc=part.stem, total=total, initial=have if resumed else 0, unit="B", unit_scale=True, disable=None)
        with bar, part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    return total


def _require_room(part: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise _NoRoom(f"{size_text(total)} are needed, and {size_text(free)} are free in {part.parent}")


def _require_hash(url: str, part: Path, digest: str | None) -> None:
    if digest is None:
        return
    found = file_sha256(part)
    if not found.startswith(digest):
        part.unlink()
        raise OSError(
            f"{url} sent another file: its SHA-256 begins with {found[: len(digest)]} instead of {digest}, and nothing "
            "of it was kept"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
