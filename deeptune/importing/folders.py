"""A folder of pictures: folders are classes, and folders named train, val and test are splits of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from deeptune.errors import DataError, listed
from deeptune.importing.file_names import readable
from deeptune.importing.options import Options
from deeptune.importing.pictures import Pictures, PieceRows, in_threads, shown_name
from deeptune.importing.reader import LeftOut, Piece, Reader
from deeptune.spec.values import SPLITS, split_named

FOLDER = "folder of pictures"
ONE = {"image": "picture", "dicom": "DICOM file", "nifti": "NIfTI volume"}  # a file alone, by its kind


@dataclass(frozen=True)
class Place:
    """A picture's file, its kind, and what its folders say of it; None where they say nothing."""

    path: Path
    kind: str
    label: str | None
    split: str | None


class PictureFolder(Reader):
    """Each picture below a folder, with the class and the split that its folders name."""

    kind = FOLDER

    def __init__(self, folder: Path, pictures: Mapping[Path, str], options: Options) -> None:
        super().__init__(folder)
        self._folder = folder
        self._stray: list[LeftOut] = []
        self._places = self._sort(folder, pictures, options)
        self._pictures = Pictures({place.kind for place in self._places}, options)
        self._paths = options.paths
        self.units = len(self._places)
        self.roles = {"input": "images"}
        fields = [pa.field("images", pa.binary())]
        for role, name, there in (
            ("label", "labels", any(place.label is not None for place in self._places)),
            ("split", "split", any(place.split is not None for place in self._places)),
        ):
            if there:
                fields.append(pa.field(name, pa.string()))
                self.roles[role] = name
        if self._pictures.group is not None:
            self.roles["group"] = self._pictures.group
        fields += self._pictures.fields
        self.schema = pa.schema(fields + ([pa.field("path", pa.string())] if options.paths else []))

    def _sort(self, folder: Path, pictures: Mapping[Path, str], options: Options) -> list[Place]:
        parts = {path: path.relative_to(folder).parts for path in pictures}
        parts = _without_wrappers(parts)
        splits = _have_splits(parts)
        named = {found[splits] for found in parts.values() if len(found) > 1 + splits}
        beside = any(len(found) == 1 + splits for found in parts.values())
        # One folder with files beside it, such as the first series of a scanner, is not a class.
        classes = options.classes and len(named) > beside
        places = []
        for path, kind in pictures.items():
            found = parts[path]
            split = split_named(found[0]) if splits else None
            inner = found[1:] if splits else found
            if classes and len(inner) == 1:
                self._stray.append(LeftOut(shown_name(path, folder), "lies beside the folders of the classes"))
                continue
            places.append(Place(path, kind, readable(inner[0]) if classes else None, split))
        self._describe(places, classes, labelled=options.label is not None)
        return places

    def _describe(self, places: Sequence[Place], classes: bool, *, labelled: bool) -> None:
        labels = sorted({place.label for place in places if place.label is not None})
        if len(labels) == 1:
            self.notes.append(
                f"all pictures are in the folder {labels[0]!r}, which is one class: a run needs two or more"
            )
        elif labels:
            self.notes.append(f"the folders are {len(labels):,} classes: {listed(labels)}")
        elif not classes and not labelled:
            self.notes.append("no classes: there is no column of labels")
        splits = Counter(place.split for place in places if place.split is not None)
        if splits:
            counts = ", ".join(f"{split} {splits[split]:,}" for split in SPLITS if splits[split])
            self.notes.append(f"the folders are splits, which are kept: {counts} files")
            for split in splits:
                lacking = set(labels) - {place.label for place in places if place.split == split}
                if lacking:
                    self.notes.append(f"{split} has no picture of {listed(sorted(map(str, lacking)))}")

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        rows, left_out, units = PieceRows(self.schema), list(self._stray if not start else ()), 0

        def read(place: Place) -> object:
            return self._pictures.read(place.path, shown_name(place.path, self._folder), place.kind)

        for place, found in in_threads(self._places[start:], read):
            units += 1
            name = shown_name(place.path, self._folder)
            if isinstance(found, str):
                left_out.append(LeftOut(name, found))
            else:
                for shot in found:
                    rows.add(shot, "images", {"labels": place.label, "split": place.split, "path": name})
            if rows.is_full or units % 1024 == 0:
                yield Piece(rows.table(), units, left_out)
                rows.clear()
                left_out, units = [], 0
        if units or left_out:
            yield Piece(rows.table(), units, left_out)

    def finished(self) -> list[str]:
        return self._pictures.finished()


class OnePicture(PictureFolder):
    """One file: a picture, or the frames and slices of a medical one."""

    def __init__(self, path: Path, kind: str, options: Options) -> None:
        super().__init__(path.parent, {path: kind}, options)
        self.path, self.kind = path, ONE[kind]

    def _describe(self, places: Sequence[Place], classes: bool, *, labelled: bool) -> None:
        """Add no notes: one file has no classes."""


def _without_wrappers(parts: dict[Path, tuple[str, ...]]) -> dict[Path, tuple[str, ...]]:
    """Return paths without the folders that all of them share, as archives have them, down to where folders differ."""
    while parts and len({found[0] for found in parts.values()}) == 1:
        inside = {found[1] for found in parts.values() if len(found) > 2}
        if len(inside) < 2 and max(map(len, parts.values())) < 4:
            break
        parts = {path: found[1:] for path, found in parts.items()}
    return parts


def _have_splits(parts: Mapping[Path, tuple[str, ...]]) -> bool:
    """Check whether the first folders are splits: all of them have such a name, and there are at least two."""
    first = {found[0] if len(found) > 1 else "" for found in parts.values()}
    return len(first) > 1 and all(split_named(name) is not None for name in first)


def empty_classes(folder: Path, pictures: Mapping[Path, str]) -> list[str]:
    """Return folders beside those with pictures that have none, which would be classes without a row."""
    used = {path.relative_to(folder).parts[0] for path in pictures}
    try:
        there = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
    return [readable(name) for name in there if name not in used and name != "__MACOSX"]


def require_pictures(folder: Path, pictures: Mapping[Path, str]) -> None:
    """Raise DataError where a folder holds nothing that can be imported."""
    if not pictures:
        raise DataError(
            f"{folder} holds no pictures and no table",
            hint="Name a Parquet file, a folder of pictures (a folder for each class), a CSV or an archive.",
        )
