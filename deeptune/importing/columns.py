"""The columns of an imported file: those with a role get the names that a spec has by default."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa

from deeptune.arrow import bare, is_text
from deeptune.errors import DataError
from deeptune.importing.file_names import readable
from deeptune.importing.named_pictures import require_column
from deeptune.importing.options import Options
from deeptune.importing.reader import Reader


@dataclass(frozen=True)
class Naming:
    """The schema of the output, and its columns by role."""

    schema: pa.Schema
    roles: dict[str, str]


def renamed(reader: Reader, options: Options) -> Naming:
    """Rename the named input and label to `images` or `text` and `labels`; other columns keep their names.

    Raises DataError for a column that is not there, and where another column has the new name.
    """
    chosen = {**reader.roles, **options.roles}
    for role, named in options.roles.items():
        require_column(reader, named, f"--{role}")
    names = {name: name for name in reader.schema.names}
    if options.roles:
        for role in ("input", "label"):
            if (column := chosen.get(role)) is not None:
                names[column] = "labels" if role == "label" else _input_name(reader.schema.field(column).type)
    taken = [name for name in names.values() if list(names.values()).count(name) > 1]
    if taken:
        olds = " and ".join(repr(old) for old, new in names.items() if new == taken[0])
        raise DataError(
            f"{reader.path}: the columns {olds} would both be called {taken[0]!r}",
            hint="Rename the one that is not meant.",
        )
    fields = [field.with_name(names[field.name]) for field in reader.schema]
    schema = pa.schema(fields, metadata=_renamed_features(reader.schema.metadata, names))
    return Naming(schema, {role: names[column] for role, column in chosen.items() if column in names})


def _input_name(kind: pa.DataType) -> str:
    return "text" if is_text(bare(kind)) else "images"


def _renamed_features(metadata: dict[bytes, bytes] | None, names: dict[str, str]) -> dict[bytes, bytes] | None:
    """Return the metadata of Hugging Face with the new names, so that class names stay those of their column."""
    try:
        known = json.loads((metadata or {})[b"huggingface"])
        features = known["info"]["features"]
        known["info"]["features"] = {names.get(name, name): feature for name, feature in features.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return metadata
    return {**(metadata or {}), b"huggingface": json.dumps(known).encode()}


def named_apart(name: str) -> str:
    """Return a name that JSON and UTF-8 can hold."""
    return readable(name)
