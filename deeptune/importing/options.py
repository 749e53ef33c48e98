"""Options of an import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Options that say how to read a source. The defaults read what the source says of itself.

    `input`, `label`, `group` and `split` name columns of a table; `images` of the columns hold the names of files that
    start at the folder `root`. `header` says whether a table begins with a row of names. `classes` says whether folders
    are classes. `window` stores DICOM values as the file's VOI window shows them. `tags` are DICOM attributes to keep
    as columns. `salt` is hashed with each PatientID.
    """

    input: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    root: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    header: bool | None = None
    classes: bool = True
    paths: bool = True
    window: bool = False
    tags: tuple[str, ...] = ()
    salt: bytes | None = None

    @property
    def roles(self) -> dict[str, str]:
        """The columns that were named, by role."""
        named = {"input": self.input, "label": self.label, "group": self.group, "split": self.split}
        return {role: column for role, column in named.items() if column is not None}
