"""Texts: those that are cut, those whose characters were decoded wrongly, and those in another script."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import Finding, Severity

MAX_CUT = 0.05  # share of cut texts beyond which a finding is a warning
MAX_RARE = 0.05  # share of texts in another script, for them to be odd
MIN_ROWS = 20
MIN_LETTERS = 5
_SCRIPTS = (
    "LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "THAI", "HANGUL",
    "HIRAGANA", "KATAKANA", "CJK", "GEORGIAN", "ARMENIAN", "ETHIOPIC",
)  # fmt: skip
_JAPANESE = ("HIRAGANA", "KATAKANA")


def truncated_texts(data: AuditData) -> Iterator[Finding]:
    """Find texts with more tokens than the backbone takes.

    Without its tokenizer, texts are counted that have more words than tokens fit: a word is at least one token.
    """
    if data.tokens is None or not data.measures.texts:
        return
    rows = np.array([at for at, text in enumerate(data.measures.texts) if text is not None], np.int64)
    texts = [data.measures.texts[at] or "" for at in rows.tolist()]
    most, exact = data.tokens.most, data.tokens.lengths is not None
    lengths = data.tokens.lengths(texts) if data.tokens.lengths else np.array([least_tokens(text) for text in texts])
    cut = lengths > most
    if not cut.any():
        return
    longest = int(lengths.max())
    lost = float((lengths[cut] - most).sum() / lengths.sum())
    text = f"{int(cut.sum()):,} of {len(rows):,} texts have more than {most:,} {'tokens' if exact else 'words'}, and "
    text += f"their ends are cut (the longest has {longest:,}; {lost:.0%} of all {'tokens' if exact else 'words'} are "
    text += f"lost): {data.wheres(rows[cut])}"
    who = f" of {data.tokens.backbone}" if data.tokens.backbone else ""
    fix = (
        f"backbone.max_length = {longest} where the backbone takes so many; or cut the texts at places that make sense"
    )
    if not exact:
        text += f". A word is at least one token{who}"
    severity: Severity = "warning" if cut.mean() > MAX_CUT else "info"
    yield data.finding("truncated_text", severity, rows[cut], text, fix)


def least_tokens(text: str) -> int:
    """Count what is at least one token each: words, and characters of scripts without spaces."""
    return len(text.split()) + sum("\u3040" <= character <= "\u9fff" for character in text)


def wrong_encodings(data: AuditData) -> Iterator[Finding]:
    """Find texts that were decoded wrongly: UTF-8 read as Windows-1252 or Latin-1, and lost characters."""
    texts = data.measures.texts
    garbled = np.array([at for at, text in enumerate(texts) if text and repaired(text) is not None], np.int64)
    if len(garbled):
        text = f"{len(garbled):,} of {len(texts):,} texts were UTF-8 and were read as another encoding: "
        text += ", ".join(_shown(data, int(at)) for at in garbled[:2])
        fix = "read the source again as UTF-8, or repair the texts with ftfy"
        yield data.finding("encoding", "warning", garbled, text, fix)
    lost = np.array([at for at, text in enumerate(texts) if text and "\ufffd" in text], np.int64)
    if len(lost):
        text = f"{len(lost):,} of {len(texts):,} texts have lost characters (U+FFFD): {data.wheres(lost)}"
        fix = "read the source again in its own encoding: what is lost can't be repaired here"
        yield data.finding("encoding", "warning", lost, text, fix)


def _shown(data: AuditData, at: int) -> str:
    text = data.measures.texts[at] or ""
    start, end = _difference(text, repaired(text) or "")
    return f"{data.where(at)} has {text[start:end]!r}"


def _difference(text: str, other: str) -> tuple[int, int]:
    """Find the part of a text around the first character that differs."""
    at = next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), 0)
    return max(0, at - 8), at + 8


def repaired(text: str) -> str | None:
    """Undo UTF-8 that was read as another encoding, by ftfy (R. Speer); None where nothing says that it was."""
    if text.isascii():
        return None
    from ftfy import fix_encoding

    found = fix_encoding(text)
    return found if found != text else None


def mixed_scripts(data: AuditData) -> Iterator[Finding]:
    """Find the few texts that are in another script than nearly all others."""
    found = {at: name for at, text in enumerate(data.measures.texts) if text and (name := script_of(text))}
    if len(found) < MIN_ROWS:
        return
    counts = Counter(found.values())
    usual = counts.most_common(1)[0][0]
    rows = np.array([at for at, name in found.items() if name != usual], np.int64)
    if 0 < len(rows) <= MAX_RARE * len(found):
        others = ", ".join(f"{count:,} {name.title()}" for name, count in counts.most_common() if name != usual)
        text = f"{len(rows):,} of {len(found):,} texts are in another script than the others, which are "
        text += f"{usual.title()} ({others}): {data.wheres(rows)}"
        fix = "leave them out, or choose a backbone of several languages"
        yield data.finding("mixed_script", "info", rows, text, fix)


def script_of(text: str) -> str | None:
    """Name the script of most letters of a text by their Unicode names; None where there are few letters."""
    letters = [character for character in text[:500] if character.isalpha()]
    if len(letters) < MIN_LETTERS:
        return None
    if text.isascii():
        return "LATIN"
    counts = Counter(unicodedata.name(letter, "").split(" ")[0] for letter in letters)
    if sum(counts[name] for name in _JAPANESE) > 0.1 * len(letters):
        return "JAPANESE"
    name = counts.most_common(1)[0][0]
    return name if name in _SCRIPTS else None
