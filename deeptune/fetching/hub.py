"""Repositories of the Hugging Face hub: from the library's own cache, or fetched with one attempt and one error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from deeptune.catalog import WEIGHT_FILES, index_shards, weight_file
from deeptune.errors import WeightsError
from deeptune.fetching.download import TIMEOUT, reason
from deeptune.fetching.hub_files import TOKENIZER_SETTINGS, VOCABULARIES
from deeptune.runs.files import file_sha256


def hub_folder(
    repo: str, *, weights: tuple[str, ...] = WEIGHT_FILES, tokenizer: bool = False, older_names: Iterable[str] = ()
) -> Path:
    """Return the cached snapshot of a Hugging Face repository: its configuration, weights, and tokenizer if asked.

    What is cached is used without a look at the network; otherwise the files are fetched once. `weights` are
    the file names of which one is needed, the preferred first; () for none. `older_names` are ids under which
    the cache may also know the repository. Raises WeightsError: no such repository, no access to it, no network.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise WeightsError(
            f"{repo!r} is neither a folder on this machine nor the name of a Hugging Face repository.",
            hint="Expected a folder with a config.json, or a name such as google-bert/bert-base-cased.",
        ) from error
    for name in (repo, *older_names):
        if folder := _cached_folder(name, weights=weights, tokenizer=tokenizer):
            return folder
    return _fetch(repo, weights=weights, tokenizer=tokenizer)


def _cached_folder(repo: str, *, weights: tuple[str, ...], tokenizer: bool) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    if weights and weight_file(folder, weights) is None:
        return None
    if tokenizer and not has_tokenizer(folder):
        return None
    return folder


def has_tokenizer(folder: Path) -> bool:
    """Say whether a folder holds a vocabulary, or the settings of a tokenizer that needs none, such as ByT5's bytes."""
    return any((folder / name).is_file() for name in VOCABULARIES[2:]) or _needs_no_vocabulary(folder)


def _needs_no_vocabulary(folder: Path) -> bool:
    import transformers

    try:
        name = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["tokenizer_class"]
        kind = getattr(transformers, name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return getattr(kind, "vocab_files_names", None) == {}


def _fetch(repo: str, *, weights: tuple[str, ...], tokenizer: bool) -> Path:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    url = hf_hub_url(repo, "config.json")
    page = f"{constants.ENDPOINT}/{repo}"
    wanted = "its configuration" + (", tokenizer" if tokenizer else "") + (f" and {weights[0]}" if weights else "")
    try:
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set")
        # One attempt: hf_hub_download alone would go on trying for a minute.
        get_hf_file_metadata(url, timeout=TIMEOUT)
        folder = Path(hf_hub_download(repo, "config.json")).parent
        for name in (*TOKENIZER_SETTINGS, *VOCABULARIES) if tokenizer else ():
            _fetch_one(repo, name)
        if weights and not _fetch_weights(repo, weights):
            raise WeightsError(f"{repo} holds none of {', '.join(weights)}.", hint=f"See {page} for what it holds.")
        return folder
    except GatedRepoError as error:
        raise WeightsError(
            f"{repo} is gated: its owner grants access on request.",
            hint=f"Ask for it at {page}, then log in with `hf auth login`.",
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"There is no repository {repo!r} at {constants.ENDPOINT}, or it is private.",
            hint="Check the name; for a private one log in with `hf auth login`.",
        ) from error
    except EntryNotFoundError as error:
        if _is_no_answer(error):
            raise _offline(repo, wanted, page, error) from error
        raise WeightsError(
            f"{repo} has no config.json, so it is not a model of the transformers library.", hint=f"See {page}."
        ) from error
    except WeightsError:
        raise
    except Exception as error:  # httpx raises its own kinds, and which httpx depends on huggingface_hub's version
        raise _offline(repo, wanted, page, error) from error


def _fetch_weights(repo: str, names: tuple[str, ...]) -> bool:
    """Fetch the first of `names` that the repository has, with the shards of an index; False where it has none."""
    for name in names:
        if file := _fetch_one(repo, name):
            for shard in index_shards(file) if file.suffix == ".json" else ():
                _fetch_one(repo, shard.name)
            return True
    return False


def _fetch_one(repo: str, name: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = Path(hf_hub_download(repo, name))
    except EntryNotFoundError as error:
        if _is_no_answer(error):
            raise
        return None
    _require_hash(path)
    return path


def _require_hash(path: Path) -> None:
    """Compare a large file with its SHA-256, by which the cache names it: the library compares its size only."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and file_sha256(blob) != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise OSError(
            f"the hub sent another {path.name} than it announced (its SHA-256 differs); nothing of it was kept"
        )


def _is_no_answer(error: Exception) -> bool:
    """Say whether a connection was lost: huggingface_hub reports that as a local file that was not found."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return isinstance(error, LocalEntryNotFoundError)


def _offline(repo: str, wanted: str, page: str, error: Exception) -> WeightsError:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE) / ("models--" + repo.replace("/", "--"))
    return WeightsError(
        f"{repo} ({wanted}) is not on this machine, and fetching it failed: {reason(error)}.\n"
        f"Looked in: {cache}\nComes from: {page}",
        hint=f"On a machine with network run `hf download {repo} --local-dir FOLDER`, copy FOLDER here and set "
        'backbone.name = "hf:FOLDER"; or copy that machine\'s cache folder to the place above. '
        'backbone.weights = "random" needs no weights, but a text backbone still needs its tokenizer.',
    )
