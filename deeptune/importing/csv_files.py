"""CSV and TSV files, whose encoding and delimiter are detected and named in a note."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from deeptune.arrow import half_character
from deeptune.errors import DataError, SpecError, first_line
from deeptune.formatting import counted
from deeptune.importing.headers import FIRST_ROWS, find_header
from deeptune.importing.options import Options
from deeptune.importing.reader import HALF, LeftOut
from deeptune.importing.tables import TextTable

MAX_FIELD = 2**27  # characters of a value
_HEAD = 2**18  # bytes or characters that a guess is made from
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_MARKS: tuple[tuple[bytes, str], ...] = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings that exports of spreadsheets and statistics programs have, for files that are not UTF-8.
_OTHERS = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "gb18030", "big5", "cp949", "koi8_r", "mac_roman"]


class CsvFile(TextTable):
    """A file of lines of values; rows with too few or too many values are left out."""

    kind = "CSV file"

    def __init__(self, path: Path, options: Options) -> None:
        self.encoding = options.encoding or detect_encoding(path)
        _require_codec(self.encoding)
        self.delimiter = {"tab": "\t", "\\t": "\t"}.get(options.delimiter or "", options.delimiter)
        if self.delimiter is None:
            self.delimiter = self._detect_delimiter(path)
        if len(self.delimiter) != 1:
            raise SpecError(f"--delimiter: expected one character or `tab`, got {self.delimiter!r}")
        self.decimal_comma = self.delimiter != ","
        self.path = path
        self._quoting: Literal[0, 3] = csv.QUOTE_MINIMAL  # or QUOTE_NONE
        self._good = 0
        self._swallowed: tuple[int, int] | None = None  # lines that an open quotation mark made one row of
        first = [values for _, values in islice(self._lines(), FIRST_ROWS)]
        if not any(value.strip() for values in first for value in values):
            raise DataError(f"{path} is empty", hint="A table needs a first row with the names of its columns.")
        self._header = find_header(first, options.header)
        super().__init__(path, self._header.names)
        self._take_quotes_as_values()
        self.notes[:0] = self._header.notes("line")
        name = _DELIMITERS.get(self.delimiter, repr(self.delimiter))
        self.notes.insert(0, f"encoding {self.encoding}, values separated by {name}")

    def _take_quotes_as_values(self) -> None:
        """Read quotation marks as characters, where one that is never closed makes one row of many good lines."""
        if self._swallowed is None:
            return
        (first, last), good = self._swallowed, self._good
        self._quoting = csv.QUOTE_NONE
        self.notes.clear()
        self.look()
        if self._good > good:
            self.notes.append(
                f"quotation marks are part of the values: one in line {first} has no other, and would make one value "
                f"of the lines up to {last:,}"
            )
            return
        self._quoting = csv.QUOTE_MINIMAL
        self.notes.clear()
        self.look()

    def _detect_delimiter(self, path: Path) -> str:
        try:
            with path.open(encoding=self.encoding, errors=_errors(self.encoding), newline="") as stream:
                head = stream.read(_HEAD)
        except (OSError, UnicodeError) as error:
            raise self._unreadable(path, error) from error
        return detect_delimiter(head, tabs=path.suffix.lower() in (".tsv", ".tab"))

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (number of the last line, values) of each row that is not blank, the header first."""
        csv.field_size_limit(MAX_FIELD)
        try:
            with self.path.open(encoding=self.encoding, errors=_errors(self.encoding), newline="") as stream:
                reader = csv.reader(stream, delimiter=str(self.delimiter), quoting=self._quoting)
                for values in reader:
                    if any(values):
                        yield reader.line_num, values
        except (OSError, UnicodeError, csv.Error) as error:
            raise self._unreadable(self.path, error) from error

    def _unreadable(self, path: Path, error: Exception) -> DataError:
        if isinstance(error, UnicodeError):
            return DataError(
                f"{path} is not text in {self.encoding}: {first_line(error)}",
                hint="Name its encoding with --encoding, such as cp1252 or utf-16.",
            )
        if isinstance(error, csv.Error):
            return DataError(
                f"{path} cannot be read as a table: {first_line(error)}",
                hint="A quotation mark that is never closed makes one value of all that follows.",
            )
        return DataError(f"{path} cannot be read: {getattr(error, 'strerror', error)}")

    def rows(self) -> Iterator[Any]:
        width = len(self.names)
        names = self._header.names
        before, self._good = 0, 0
        for place, (number, values) in enumerate(self._lines()):
            first, before = before + 1, number
            if place < self._header.rows:
                continue
            if len(values) > width and not any(values[width:]):
                values = values[:width]  # delimiters at the end of a line
            if len(values) != width and number > first and self._quoting != csv.QUOTE_NONE:
                self._swallowed = self._swallowed or (first, number)
                found = counted(len(values), "value")
                reason = f"are one row with {found}, and the header has {width}: is a quotation mark never closed?"
                yield LeftOut(f"lines {first} to {number}", reason)
            elif len(values) != width:
                yield LeftOut(f"line {number}", f"has {counted(len(values), 'value')}, and the header has {width}")
            elif values == names:
                yield LeftOut(f"line {number}", "repeats the names of the columns")
            elif any("\0" in value for value in values):
                yield LeftOut(f"line {number}", "holds a NUL character: the file is damaged there")
            elif any(half_character(value) for value in values):
                whole = [_joined(value) for value in values]
                yield LeftOut(f"line {number}", HALF) if None in whole else [value or None for value in whole]
            else:
                self._good += 1
                yield [value or None for value in values]


def _joined(text: str) -> str | None:
    """Return a text whose characters came in two halves, as Java and Oracle write them; None where a half is alone."""
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        return None


def _errors(encoding: str) -> str:
    """Return the codec error handler of an encoding: in UTF-8, half a character is kept, so that its row is judged."""
    return "surrogatepass" if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig") else "strict"


def detect_encoding(path: Path) -> str:
    """Return the encoding of a text file: by its mark, else UTF-8 if all of it is that, else the likeliest of others.

    Raises DataError for what is not text.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            for mark, name in _MARKS:
                if head.startswith(mark):
                    return name
            if b"\0" in head and (found := _wide(head)) is not None:
                return found
            if _share_of_control(head) > 0.05:
                raise DataError(f"{path} is not a text file", hint="Export it as CSV in UTF-8.")
            sample = _not_utf8(stream, head)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if sample is None or _is_utf8_with_halves(sample):
        return "utf-8"
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=_OTHERS, threshold=0.6).best()
    return "cp1252" if best is None else _usual(best.encoding, sample)


def _usual(found: str, sample: bytes) -> str:
    """Prefer cp1252: encodings of western Europe differ in few letters, and it is by far the most used of them."""
    if found in ("cp1250", "cp1254", "mac_roman", "cp1252"):
        letters = re.findall(rb"[\x80-\xff]", sample)
        common = sum(
            letter in b"\xe4\xf6\xfc\xdf\xc4\xd6\xdc\xe9\xe8\xe0\xe7\xf1\xea\xe2\xf4\xee\xed\xf3\xe1"
            for letter in letters
        )
        if common >= 0.5 * len(letters):
            return "cp1252"
    return found


def _not_utf8(stream: Any, head: bytes) -> bytes | None:
    """Return a part of the file with what is not UTF-8; None where there is nothing such."""
    decoder, block = codecs.getincrementaldecoder("utf-8")(), head
    while True:
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError:
            lines = [line for line in block.splitlines() if any(byte > 127 for byte in line)]
            return b"\n".join(lines)[: _HEAD // 4] or block
        if not block:
            return None
        block = stream.read(_HEAD)


def _is_utf8_with_halves(sample: bytes) -> bool:
    """Check whether what is not UTF-8 are only halves of characters, encoded as if they were characters."""
    try:
        return half_character(sample.decode("utf-8", "surrogatepass")) is not None
    except UnicodeDecodeError:
        return False


def _wide(head: bytes) -> str | None:
    """Recognise UTF-16 without a mark: every other byte of western text is 0."""
    pairs = len(head) // 2
    for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if zeros.count(0) > 0.7 * pairs:
            return name
    return None


def _share_of_control(head: bytes) -> float:
    control = sum(head.count(bytes([byte])) for byte in range(32) if byte not in (9, 10, 12, 13))
    return control / max(1, len(head))


def _require_codec(name: str) -> None:
    try:
        codecs.lookup(name)
    except LookupError:
        raise SpecError(f"--encoding: there is no encoding {name!r}", hint="Such as utf-8, cp1252 or utf-16.") from None


def detect_delimiter(head: str, *, tabs: bool = False) -> str:
    """Return the character that splits most of the first rows into as many values as the header, or a comma.

    Lines above a header have another number of values: then the most frequent number counts.
    """
    usual = "\t" if tabs else ","
    delimiters = sorted(_DELIMITERS, key=lambda one: one != usual)
    rows = {delimiter: _split(head, delimiter) for delimiter in delimiters}
    for width_of in (lambda widths: widths[0], lambda widths: Counter(widths).most_common(1)[0][0]):
        best, found = (0.0, 0), ""
        for delimiter in delimiters:
            widths = [len(row) for row in rows[delimiter]]
            if not widths or (width := width_of(widths)) < 2:
                continue
            score = (round(widths.count(width) / len(widths), 2), width)
            if score > best:
                best, found = score, delimiter
        if best[0] > 0.5:
            return found
    return found or usual


def _split(head: str, delimiter: str) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(head.splitlines(keepends=True)[:200], delimiter=delimiter) if any(row)]
    except csv.Error:
        return []
    return rows[:-1] if len(rows) > 2 else rows  # the last may be cut off
