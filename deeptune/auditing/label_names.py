"""Labels that may be meant as one class, and labels that are not classes."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding
from deeptune.auditing.labels import Labels
from deeptune.data.splits.class_names import column_text
from deeptune.errors import listed
from deeptune.formatting import counted
from deeptune.spec.tasks import USUAL_TASKS

MAX_CLASSES = 2_000  # classes that are compared with each other, at most
MAX_RARE = 0.1  # rows of a typo, as a share of those of the class that it may be meant for
MAX_TYPOS = 5  # rows of a typo, at most
MIN_LETTERS = 3  # letters of a class that may be mistyped, at least
LONG = 8  # letters from which on two may be wrong
MIN_NUMBERS = 30  # different numbers from which on labels look like an amount
ID_SHARE = 0.5  # classes for each row from which on labels look like ids
# What exports write for a missing value.
_NOTHING = frozenset(
    {"nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nat", "?", "-", "--", "missing", "undefined"}
)


def says_nothing(name: str) -> bool:
    """Check whether a class is a word that exports write for a missing value."""
    return name.strip().casefold() in _NOTHING


def label_variants(data: AuditData) -> Iterator[Finding]:
    """Find classes that differ in case, spaces or a letter from another, and labels that look like numbers or ids."""
    labels = data.labels
    if labels is None or not labels.classes or data.label is None:
        return
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.classes))
    yield from _amounts(data, counts)
    if found := variant_classes(labels):
        codes = [labels.classes.index(rare) for rare in found]
        rows = np.flatnonzero(np.isin(labels.codes, codes))
        shown = listed(
            (
                f"{rare!r} ({counts[labels.classes.index(rare)]:,}) like {usual!r} "
                f"({counts[labels.classes.index(usual)]:,})"
                for rare, usual in found.items()
            ),
            most=6,
        )
        one = len(found) == 1
        text = f"{len(found):,} {'class' if one else 'classes'} of column {column_text(data.label)!r} may be meant "
        text += f"as another (rows in brackets): {shown}"
        fix = "deeptune audit … --fix CLEAN.parquet --merge-labels writes each as the other"
        yield data.finding("label_variant", "warning", rows, text, fix)


def variant_classes(labels: Labels) -> dict[str, str]:
    """Say which classes may be meant as which other one (`variants`); nothing for numbers and for very many classes."""
    if not labels.words or len(labels.classes) > MAX_CLASSES:
        return {}
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.classes))
    return variants(labels.classes, counts)


def _amounts(data: AuditData, counts: np.ndarray) -> Iterator[Finding]:
    labels = data.labels
    assert labels is not None
    name, known = column_text(data.label or ""), int(counts.sum())
    none = np.zeros(0, np.int64)
    if len(counts) > max(2, ID_SHARE * known) and known >= 20:
        text = f"column {name!r} has {len(counts):,} different labels in {known:,} rows: they look like ids or free "
        text += "text, and no class has rows to learn from"
        yield data.finding("label_variant", "error", none, text, "name another label column with data.label")
        return
    numeric = [code for code, one in enumerate(labels.classes) if _is_number(one)]
    if labels.words and 0 < len(numeric) < len(labels.classes):
        rows = np.flatnonzero(np.isin(labels.codes, numeric))
        if len(rows) < known / 2:
            which = listed(repr(labels.classes[code]) for code in numeric)
            are = "is a number" if len(rows) == 1 else "are numbers"
            text = f"{counted(len(rows), 'label')} of column {name!r} {are} among words: {which}"
            yield data.finding("label_variant", "warning", rows, text, "write the words that the numbers stand for")
    elif len(numeric) == len(labels.classes) >= MIN_NUMBERS and data.task == USUAL_TASKS["classes"]:
        text = f"the labels of column {name!r} are {len(counts):,} different numbers, which {data.task} takes for "
        text += "names without an order"
        hint = f'task = "{USUAL_TASKS["numbers"]}" where they are amounts'
        yield data.finding("label_variant", "info", none, text, hint)


def _is_number(name: str) -> bool:
    return re.fullmatch(r"\s*[-+]?\d+([.,]\d+)?\s*", name) is not None


def variants(classes: tuple[str, ...], counts: np.ndarray) -> dict[str, str]:
    """Say which classes may be meant as which other, more frequent one.

    Classes are variants if they differ in case, spaces, hyphens or the form of Unicode. A rare one is a typo if one
    letter of a frequent one was added, left out, changed or swapped with the next; two letters in long words. Digits
    are never typos: `grade 1` and `grade 2` are two classes.
    """
    number = dict(zip(classes, counts.tolist(), strict=True))
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[_plain(name)].append(name)
    found: dict[str, str] = {}
    usual = {key: max(names, key=lambda name: (number[name], name == name.strip())) for key, names in alike.items()}
    for key, names in alike.items():
        found |= {name: usual[key] for name in names if name != usual[key]}
    total = {key: sum(number[name] for name in names) for key, names in alike.items()}
    for key in sorted(alike, key=lambda key: total[key]):
        others = [other for other in alike if _may_be_typo(key, other, total)]
        if others:
            best = max(others, key=lambda other: total[other])
            found |= dict.fromkeys(alike[key], usual[best])
    return found


def _may_be_typo(rare: str, usual: str, total: dict[str, int]) -> bool:
    if rare == usual or total[rare] > min(MAX_TYPOS, MAX_RARE * total[usual]):
        return False
    shorter = min(len(rare), len(usual))
    most = 2 if shorter >= LONG else 1
    if shorter < MIN_LETTERS or abs(len(rare) - len(usual)) > most:
        return False
    if re.sub(r"\D", "", rare) != re.sub(r"\D", "", usual):
        return False
    if min(map(len, re.findall(r"[^\W\d]+", rare) or [""])) == 1:  # `type a` and `type b`
        return False
    return typing_errors(rare, usual) <= most


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def typing_errors(a: str, b: str) -> int:
    """Count the letters to add, leave out, change or swap with the next, to get b of a (F. Damerau, 1964)."""
    rows = [list(range(len(b) + 1))]
    for i, left in enumerate(a, start=1):
        row = [i]
        for j, right in enumerate(b, start=1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]
