"""The files that splits are read from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from deeptune.data.columns.input_columns import attach_files, resolve_columns
from deeptune.data.sources.parquet import ParquetSource, open_source
from deeptune.data.sources.source import Source
from deeptune.errors import DataError
from deeptune.spec.run_spec import SPLITS, DataSpec, RunSpec


def open_sources(spec: RunSpec) -> dict[str, ParquetSource]:
    """Return the files of each split that has its own; under `train` alone those that all splits are drawn from.

    With `train.val = "cv"` the rows of val are trained on, and its files stand under `train`.

    Raises DataError for files that can't be opened, that hold no rows, or that are in two splits, also as a copy.
    """
    data = spec.data
    if data.path is not None:
        named = {"path": data.path}
    else:
        paths = {"train": data.train, "val": data.val, "test": data.test}
        named = {split: path for split, path in paths.items() if path is not None}
    owner: dict[str, str] = {}
    sources = {}
    for key, path in named.items():
        source = open_source(path, key=f"data.{key}", root=data.root)
        if source.num_rows == 0:
            raise DataError(f"{source.key}: {source.describe()} has no rows", hint="There is nothing to learn from.")
        for file in source.files:
            other = owner.setdefault(str(file.resolve()), key)
            if other != key:
                raise DataError(f"data.{key}: {file} is also in data.{other}", hint="A row belongs in one split only.")
        sources["train" if key == "path" else key] = source
    _refuse_copies(sources)
    if spec.train.val == "cv" and "val" in sources:
        sources = {**_with_val_in_train(data, sources), **{key: sources[key] for key in ("test",) if key in sources}}
    with suppress(DataError):  # what is wrong with the columns `draft_plan` says
        modality, input = resolve_columns(sources["train"], data.modality, data.input)
        for source in sources.values():
            attach_files(source, modality, input)
    return sources


def _with_val_in_train(data: DataSpec, sources: Mapping[str, ParquetSource]) -> dict[str, ParquetSource]:
    """Return the files of train, then those of val, as one source."""
    files = [str(file) for split in ("train", "val") for file in sources[split].files]
    return {"train": open_source(files, key="data.train", root=data.root)}


def _refuse_copies(sources: Mapping[str, ParquetSource]) -> None:
    """Refuse files of two splits with the same bytes; only those of the same size are read."""
    sizes: dict[int, list[tuple[str, Path]]] = {}
    for split, source in sources.items():
        for file in source.files:
            alike = sizes.setdefault(source.size(file), [])
            for other, before in alike:
                if other != split and sources[other].digest(before) == source.digest(file):
                    raise DataError(
                        f"data.{split}: {file} has the same bytes as {before} of data.{other}",
                        hint="A row belongs in one split only: name the file that was meant, or leave this split out.",
                    )
            alike.append((split, file))


def sources_fingerprint(sources: Mapping[str, Source]) -> str:
    """Return `sha256:` of the contents of all files, and of which split they are for when they differ."""
    prints = {split: sources.get(split, sources["train"]).fingerprint() for split in SPLITS}
    if len(set(prints.values())) == 1:
        return prints["train"]
    return "sha256:" + hashlib.sha256(json.dumps(prints).encode()).hexdigest()
