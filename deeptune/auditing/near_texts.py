"""Texts that are nearly identical: the same words with other punctuation, or a few words changed.

Texts are compared as sets of 5-grams of UTF-8 bytes by their Jaccard similarity. Candidates come from MinHash
signatures (A. Broder, On the Resemblance and Containment of Documents, 1997) in bands, so that not all pairs are
compared.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.duplicates import alike, near_findings, sets_of_pairs
from deeptune.auditing.findings import Finding

GRAM = 5  # characters that are compared at once
MIN_SIMILARITY = 0.8
MIN_SIMILARITY_BY_FEATURES = 0.6  # least similarity of texts that a backbone takes for the same
MIN_CHARACTERS = 20  # characters that a text needs to be compared by its 5-grams; shorter ones must be equal
SIGNATURE, BAND = 64, 4
MAX_IN_BUCKET = 40  # texts of a bucket up to which all pairs are compared
_POWERS = np.array([257**at for at in range(GRAM)], np.uint64)


def near_texts(data: AuditData) -> Iterator[Finding]:
    """Find texts that are nearly identical, and not character for character."""
    yield from near_findings(data, sets_of_pairs(near_text_pairs(data), len(data)), "by their words")


def near_text_pairs(data: AuditData) -> np.ndarray:
    """Find the pairs of rows (int64 (P, 2)) whose texts are nearly, and not wholly, identical."""
    if not data.measures.texts:
        return np.zeros((0, 2), np.int64)
    _, first = np.unique(data.measures.hashes, return_index=True)
    rows = np.array([at for at in np.sort(first).tolist() if data.measures.texts[at] is not None], np.int64)
    normal = [normalised(data.measures.texts[at] or "") for at in rows.tolist()]
    pairs = [_equal_pairs(normal)]
    grams = [grams_of(text) for text in normal]
    long = [at for at, text in enumerate(normal) if len(text) >= MIN_CHARACTERS]
    pairs.append(_similar(candidates([grams[at] for at in long], np.array(long, np.int64)), grams, MIN_SIMILARITY))
    if data.features is not None:
        pairs.append(_similar(alike(data.features[rows]), grams, MIN_SIMILARITY_BY_FEATURES))
    return rows[np.concatenate(pairs)]


def normalised(text: str) -> str:
    """Give a text in lower case, without punctuation, with one space between words."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", plain))


def grams_of(text: str) -> np.ndarray:
    """Hash the 5-grams of the UTF-8 bytes of a text: uint64, ascending, each once."""
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.uint64)
    if len(data) < GRAM:
        return np.unique(data)
    windows = np.lib.stride_tricks.sliding_window_view(data, GRAM)
    return np.unique(windows @ _POWERS)


def _equal_pairs(texts: list[str]) -> np.ndarray:
    """Pair each text with the first that is equal to it (int64 (P, 2))."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(text, at), at) for at, text in enumerate(texts) if text]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)


def candidates(grams: list[np.ndarray], places: np.ndarray) -> np.ndarray:
    """Pair texts (int64 (P, 2), by `places`) whose MinHash signatures agree in a band."""
    if len(grams) < 2:
        return np.zeros((0, 2), np.int64)
    rng = np.random.default_rng(0)
    factors = rng.integers(1, 2**63, SIGNATURE, np.uint64) | np.uint64(1)
    shifts = rng.integers(0, 2**63, SIGNATURE, np.uint64)
    signatures = np.stack([((one[:, None] * factors + shifts) >> np.uint64(16)).min(axis=0) for one in grams])
    found: set[tuple[int, int]] = set()
    for start in range(0, SIGNATURE, BAND):
        _, bucket = np.unique(signatures[:, start : start + BAND], axis=0, return_inverse=True)
        order = np.argsort(bucket.ravel(), kind="stable")
        edges = np.flatnonzero(np.diff(bucket.ravel()[order], prepend=-1))
        for begin, end in zip(edges, [*edges[1:], len(order)], strict=True):
            members = order[begin:end].tolist()
            if len(members) > MAX_IN_BUCKET:  # texts from one form: each with the one before
                found.update(itertools.pairwise(members))
            else:
                found.update((a, b) for at, a in enumerate(members) for b in members[at + 1 :])
    return places[np.array(sorted(found), np.int64).reshape(-1, 2)]


def _similar(pairs: np.ndarray, grams: list[np.ndarray], least: float) -> np.ndarray:
    """Keep the pairs whose sets of 5-grams have at least this Jaccard similarity."""
    return pairs[[_jaccard(grams[a], grams[b]) >= least for a, b in pairs.tolist()]]


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    if min(len(a), len(b)) < MIN_SIMILARITY_BY_FEATURES * max(len(a), len(b)):
        return 0.0
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)
