"""Texts in fastText's format: `__label__positive I liked it` on each line, with any number of labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeptune.errors import DataError, first_line
from deeptune.importing.csv_files import detect_encoding
from deeptune.importing.options import Options
from deeptune.importing.reader import LeftOut
from deeptune.importing.tables import ObjectTable

SUFFIXES = (".ft.txt",)  # a `.txt` file is recognised by its first line
LABEL = "__label__"


def is_fasttext(path: Path) -> bool:
    """Check whether the first line of a file that is not blank begins with a label."""
    try:
        with path.open("rb") as stream:
            return stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(LABEL.encode())
    except OSError:
        return False


class FastText(ObjectTable):
    """A text and its labels for each line; the labels are lists where some line has more than one."""

    kind = "fastText file"

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path)
        self._encoding = options.encoding or detect_encoding(path)
        self._several = any(len(labels) > 1 for _, labels, _ in self._lines())
        self.notes.append(f"encoding {self._encoding}, labels begin with {LABEL}")
        self.look()
        self.roles = {"input": "text", "label": "labels"}

    def rows(self) -> Iterator[Any]:
        for number, labels, text in self._lines():
            if not text:
                yield LeftOut(f"line {number}", "holds no text")
            elif self._several:
                yield {"text": text, "labels": labels}
            else:
                yield {"text": text, "labels": labels[0] if labels else None}

    def _lines(self) -> Iterator[tuple[int, list[str], str]]:
        """Yield the number, the labels and the text of each line that is not blank."""
        try:
            with self.path.open(encoding=self._encoding) as stream:
                for number, line in enumerate(stream, 1):
                    labels, text = [], line.strip()
                    while text.startswith(LABEL):
                        label, *rest = text.split(None, 1)
                        labels.append(label.removeprefix(LABEL))
                        text = rest[0] if rest else ""
                    if labels or text:
                        yield number, labels, text
        except (OSError, UnicodeError) as error:
            raise DataError(f"{self.path} cannot be read: {first_line(error)}") from error
