"""The surroundings of a process: standard streams, a home, a current folder, names of files.

Containers and batch systems leave out any of these. Each gap is closed or reported here, at the start of a command.
"""

from __future__ import annotations

import codecs
import getpass
import math
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from deeptune.control_groups import cpu_quota
from deeptune.errors import DeepTuneError, SpecError
from deeptune.nvml import use_one_numbering

# Batch scripts empty these to unset them. Libraries would take the empty text as an address or a folder.
_UNSET_WHERE_EMPTY = (
    "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME", "XDG_CACHE_HOME",
)  # fmt: skip


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of DeepTune with these arguments.

    A module of that name in the folder that a person happens to be in is not the library's: no such folder is searched,
    unless it holds DeepTune itself.
    """
    safe = [] if Path(__file__).parents[1] == Path.cwd() else ["-P"]
    return [sys.executable, *safe, "-m", module, *arguments]


def prepare_process() -> None:
    """Give this process and its children open standard streams that take any text, a home, and one numbering of GPUs.

    A closed stream becomes the null device: the next file that is opened would get its number otherwise, and what
    libraries print would go into that file.
    """
    for name in _UNSET_WHERE_EMPTY:
        if os.environ.get(name) == "":
            del os.environ[name]
    for number in (0, 1, 2):
        _open_if_closed(number)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    codecs.register_error("nearest", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="nearest")
    _find_home()
    use_one_numbering()


def require_current_folder() -> None:
    """Raise SpecError where the current folder was removed: relative paths, and many libraries, have no start then."""
    try:
        os.getcwd()
    except OSError as error:
        raise SpecError(
            f"the current folder cannot be used: {error.strerror}. It was removed or unmounted",
            hint="Change to a folder that exists (`cd`), then start again.",
        ) from error


def short_path(path: str | os.PathLike[str]) -> str:
    """Return a path relative to the current folder where that is shorter, else as it is."""
    text = os.fspath(path)
    with suppress(OSError):  # the current folder was removed
        return min(os.path.relpath(text), text, key=len)
    return text


def user_path(text: str | os.PathLike[str], *, key: str, error: type[DeepTuneError] = SpecError) -> Path:
    """Return a path that a person typed, with `~` replaced. Raises `error` for the home of nobody."""
    try:
        return Path(text).expanduser()
    except RuntimeError as problem:
        raise error(
            f"{key}: {os.fspath(text)}: there is no such home folder", hint="Write the whole path."
        ) from problem


def require_utf8(path: str | os.PathLike[str], *, key: str, error: type[DeepTuneError] = SpecError) -> None:
    """Raise `error` for a name that is not UTF-8: Parquet, TOML and JSON files cannot hold it."""
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        part = next(part for part in text.split(os.sep) if not _is_utf8(part))
        raise error(
            f"{key}: the name {os.fsencode(part)!r} in {text} is not UTF-8",
            hint="Rename it, for example with `convmv -f latin1 -t utf8`, or use another folder.",
        ) from problem


def _is_utf8(text: str) -> bool:
    with suppress(UnicodeEncodeError):
        text.encode()
        return True
    return False


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        # The lowest free number is given out, which is this one as those below are open.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks by its nearest in ASCII. An error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    from deeptune.ascii import to_ascii

    text = error.object[error.start : error.end]
    return "".join("?" if 0xD800 <= ord(character) <= 0xDFFF else to_ascii(character) for character in text), error.end


def _find_home() -> None:
    """Set HOME where there is none or nothing can be kept in it, and a user name where there is none.

    A container with a numeric user has no account. torch and huggingface_hub would then make a folder `~`.
    """
    home = os.path.expanduser("~")
    if not os.path.isabs(home) or not (os.access(home, os.W_OK) or os.path.isdir(os.path.join(home, ".cache"))):
        with suppress(OSError):
            os.environ["HOME"] = _temporary_home()
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())


def _temporary_home() -> str:
    """Return a folder among the temporary files that nobody else can read."""
    folder = os.path.join(tempfile.gettempdir(), f"deeptune-{os.getuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if private else tempfile.mkdtemp(prefix="deeptune-")


def cores() -> int:
    """Return the number of CPU cores that this process may use: those that it may run on, or fewer by a quota."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return found if quota is None else max(1, min(found, math.ceil(quota)))
