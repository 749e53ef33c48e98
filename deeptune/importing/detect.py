"""Detects the kind of source at a path, and opens its reader."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from deeptune.environment import require_utf8, user_path
from deeptune.errors import DataError, did_you_mean, listed
from deeptune.formatting import counted
from deeptune.importing import archives, arrow_files, csv_files, fasttext, json_lines, original_deeptune, spreadsheets
from deeptune.importing.file_names import OTHERS, readable, split_in_name, walk
from deeptune.importing.folders import OnePicture, PictureFolder, empty_classes, require_pictures
from deeptune.importing.named_pictures import NamedPictures, Names, naming_column, require_column
from deeptune.importing.options import Options
from deeptune.importing.pictures import picture_kind
from deeptune.importing.reader import LeftOut, Reader
from deeptune.importing.several_sources import Several
from deeptune.importing.tables import Table
from deeptune.importing.unpacked_archive import UnpackedArchive, named_as_inside
from deeptune.progress import Progress
from deeptune.spec.sources import IMPORTED, ONE_SOURCE
from deeptune.spec.values import split_named

_TABLES: tuple[tuple[tuple[str, ...], Callable[[Path, Options], Table]], ...] = (
    ((".csv", ".tsv", ".tab"), csv_files.CsvFile),
    (spreadsheets.SUFFIXES, spreadsheets.Sheet),
    (json_lines.SUFFIXES, json_lines.JsonLines),
    (fasttext.SUFFIXES, fasttext.FastText),
)
_BOOKKEEPING = frozenset({"dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json"})
FORMATS = (
    "a folder of pictures, CSV, TSV, XLSX, ODS, JSON lines, fastText, a ZIP or TAR of these, .npz, WebDataset shards, "
    "a Hugging Face data set folder, DICOM or NIfTI"
)
_TABLES_OF_OTHERS = {  # by their first bytes
    "a SQLite database": (b"SQLite format 3\0",),
    "an HDF5 file": (b"\x89HDF\r\n\x1a\n",),
    "an ORC file": (b"ORC",),
    "an Avro file": (b"Obj\1",),
    "a pickle of Python": (b"\x80\4\x95", b"\x80\5\x95"),
}


def takes(path: Path) -> bool:
    """Check whether a path that is there is a source to import, by its name: a file of a known kind, or a folder."""
    return path.is_dir() or path.name.lower().endswith(IMPORTED) or picture_kind(path) is not None


def open_reader(path: Path, options: Options, work: Path, progress: Progress | None = None) -> Reader:
    """Return the reader of a source. Archives are unpacked into the folder `work`.

    Raises DataError for what can't be read or is of no known kind.
    """
    path = user_path(path, key="SOURCE", error=DataError)
    require_utf8(path, key="SOURCE", error=DataError)
    if path.is_dir():
        return _open_folder(path, options, work)
    if not path.exists():
        near = did_you_mean(path.name, [item.name for item in path.parent.iterdir()]) if path.parent.is_dir() else ""
        hint = ONE_SOURCE if glob.has_magic(path.name) or "{" in path.name else f"Relative paths start at {Path.cwd()}."
        raise DataError(f"there is no file or folder {path}. {near}".rstrip(), hint=hint)
    return _open_file(path, options, work, progress)


def _open_file(path: Path, options: Options, work: Path, progress: Progress | None) -> Reader:
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)", hint="Copy it again.")
    name = path.name.lower()
    if name.endswith(archives.TARS) and _is_webdataset(path):
        from deeptune.importing.webdataset import WebDataset

        return WebDataset(path, [path], options)
    if archives.is_archive(path):
        unpacked = archives.unpack(path, work / "unpacked", progress)
        with named_as_inside(path, unpacked.folder):
            return UnpackedArchive(path, unpacked, _open_folder(unpacked.folder, options, work / "inside"))
    if name.endswith(".npz"):
        from deeptune.importing.npz import NumpyArchive

        return NumpyArchive(path)
    if name.endswith((*arrow_files.SUFFIXES, ".parquet")):
        return arrow_files.ArrowFile(path)
    if (kind := picture_kind(path)) is not None:
        return OnePicture(path, kind, options)
    opener = _table_opener(path) or (_text_opener(path) if name.endswith(".txt") else None)
    if opener is None:
        raise DataError(f"{path} is of no kind that can be imported", hint=_hint_of(path))
    folder = Path(options.root) if options.root else path.parent
    return _with_pictures(opener(path, options), folder, _pictures_of(folder)[0] if options.root else None, options)


def _hint_of(path: Path) -> str:
    with suppress(OSError), path.open("rb") as stream:
        head = stream.read(16)
        for kind, begins in _TABLES_OF_OTHERS.items():
            if head.startswith(begins):
                return f"It is {kind}: read it in Python, as with pandas, and write its rows as Parquet or CSV."
    with suppress(DataError):
        csv_files.detect_encoding(path)
        return (
            f"It is text: name it {path.name}.csv, .tsv, .jsonl or as what it is. "
            + f"What can be imported: {FORMATS}."
        )
    return f"Import {FORMATS}."


def _table_opener(path: Path) -> Callable[[Path, Options], Table] | None:
    name = path.name.lower()
    return next((opener for suffixes, opener in _TABLES if name.endswith(suffixes)), None)


def _text_opener(path: Path) -> Callable[[Path, Options], Table]:
    return fasttext.FastText if fasttext.is_fasttext(path) else csv_files.CsvFile


def _is_webdataset(path: Path) -> bool:
    from deeptune.importing.webdataset import is_webdataset

    return is_webdataset(path)


def _with_pictures(table: Table, folder: Path, pictures: dict[Path, str] | None, options: Options) -> Reader:
    """Return the table with the pictures that it names, or the table itself where it names none."""
    names = Names(folder, pictures)
    lacks = not set(options.roles.values()) <= set(table.schema.names)
    if lacks and pictures and naming_column(table, names, replace(options, input=None)) is None:
        return table  # it says nothing of the pictures: the columns that are named are theirs
    for option, named in options.roles.items():
        require_column(table, named, f"--{option}")
    column = naming_column(table, names, options)
    return table if column is None else NamedPictures(table, column, names, options)


def _pictures_of(folder: Path) -> tuple[dict[Path, str], list[Path], Counter[str]]:
    """Return the pictures below a folder with their kinds, the other files, and how many were ignored."""
    pictures, others, ignored = {}, [], Counter[str]()
    for path in walk(folder, ignored):
        kind = picture_kind(path)
        if kind is None:
            others.append(path)
        else:
            pictures[path] = kind
    return pictures, others, ignored


def _open_folder(folder: Path, options: Options, work: Path) -> Reader:
    if arrow_files.is_data_set(folder):
        return arrow_files.data_set(folder)
    if (splits := original_deeptune.find_splits(folder)) is not None:
        return original_deeptune.original_splits(splits)
    pictures, others, ignored = _pictures_of(folder)
    reader = _reader_of(folder, pictures, others, options, work)
    reader.ignored.update(ignored)
    return reader


def _reader_of(folder: Path, pictures: dict[Path, str], others: list[Path], options: Options, work: Path) -> Reader:
    tables = [file for file in others if _table_opener(file) is not None and file.name not in _BOOKKEEPING]
    shards = [
        file for file in others if file.name.lower().endswith(archives.TARS) and not pictures and _is_webdataset(file)
    ]
    if shards:
        from deeptune.importing.webdataset import WebDataset

        return WebDataset(folder, shards, options)
    for suffix in (".parquet", *arrow_files.SUFFIXES):
        files = [file for file in others if file.suffix.lower() == suffix]
        if files and not pictures and not tables:
            return arrow_files.by_split(folder, files)
    if tables and (found := _of_tables(folder, tables, pictures, options)) is not None:
        return found
    if not pictures and len(others) == 1 and takes(others[0]):
        return _open_file(others[0], options, work, None)
    if not pictures and (packed := [file for file in others if archives.is_archive(file)]):
        raise DataError(
            f"{folder} holds {counted(len(packed), 'archive')} and no pictures: {listed(file.name for file in packed)}",
            hint="Unpack them into one folder and import that, or import one of them.",
        )
    require_pictures(folder, pictures)
    reader = PictureFolder(folder, pictures, options)
    if options.classes and "label" in reader.roles and (empty := empty_classes(folder, pictures)):
        reader.notes.append(f"folders without a picture, which are not classes: {listed(empty)}")
    if others:
        reader.ignored[OTHERS] += len(others)
        kinds = Counter(readable(file.suffix.lower()) or "no suffix" for file in others)
        reader.notes.append(
            "files that are not pictures: " + listed(f"{count:,} {kind}" for kind, count in kinds.items())
        )
    return reader


def _of_tables(folder: Path, tables: list[Path], pictures: dict[Path, str], options: Options) -> Reader | None:
    """Return one table, or a table for each split; None where pictures are there and no table names them."""
    splits = {table: _split_of(table, folder) for table in tables}
    if len(tables) > 1 and not all(splits.values()):
        named = [table for table in tables if table.name.lower().startswith("metadata.")]
        if pictures and len(named) != 1:
            return None if not _any_names(tables, folder, pictures, options) else _refuse(folder, tables)
        if len(named) != 1:
            return _refuse(folder, tables)
        tables = named
    readers: list[tuple[str | None, Reader]] = []
    for table in tables:
        # The table of a split's own folder names pictures of that folder.
        inside = table.parent if table.parent != folder else folder
        mine = {path: kind for path, kind in pictures.items() if path.is_relative_to(inside)} or pictures
        inside = inside if mine is not pictures or inside == folder else folder
        opener = _table_opener(table)
        assert opener is not None
        reader = _with_pictures(opener(table, options), inside, mine if pictures else None, options)
        if pictures and not isinstance(reader, NamedPictures):
            return None
        readers.append((splits[table] if len(tables) > 1 else None, reader))
    return readers[0][1] if len(readers) == 1 else Several(folder, readers, f"{readers[0][1].kind} for each split")


def _split_of(table: Path, folder: Path) -> str | None:
    return split_in_name(table.stem) or next(filter(None, map(split_named, table.relative_to(folder).parts[:-1])), None)


def _any_names(tables: list[Path], folder: Path, pictures: dict[Path, str], options: Options) -> bool:
    openers = [(table, opener) for table in tables if (opener := _table_opener(table)) is not None]
    names = Names(folder, pictures)
    return any(naming_column(opener(table, options), names, options) is not None for table, opener in openers)


def _refuse(folder: Path, tables: list[Path]) -> Reader:
    raise DataError(
        f"{folder} holds {len(tables)} tables: {listed(table.name for table in tables)}",
        hint="Name the one to import, with --root for the folder of its pictures.",
    )


__all__ = ["FORMATS", "LeftOut", "open_reader", "takes"]
