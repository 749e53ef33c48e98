"""Images that are nearly identical: saved again, resized, slightly cropped or brightened.

Each image has a perceptual hash that is kept as numbers: the low frequencies of a small grey picture (pHash;
C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010). The pictures have mean 0 and
length 1, so that their distance d says their correlation, 1 − d² / 2, and that of the low frequencies is never larger:
a search among them for a small distance misses no pair. The pixels of a pair that is found are then compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deeptune.auditing.data import AuditData
from deeptune.auditing.duplicates import alike, near_findings, sets_of_pairs
from deeptune.auditing.findings import Finding
from deeptune.auditing.measures import SIDE

MIN_CORRELATION = 0.98  # least correlation of the pixels of two grey pictures of SIDE × SIDE
MIN_CONTRAST = 4.0  # standard deviation in grey levels below which a picture is too plain to be compared
FREQUENCIES = 8  # frequencies of each direction
NEIGHBOURS = 8
MIN_SHARPNESS = 0.3  # share of the distance to a usual neighbour that a pair must stay below
MIN_ROUGH = 0.9  # least correlation of two pictures that a backbone takes for the same
BLOCK = 1024


def near_images(data: AuditData) -> Iterator[Finding]:
    """Find images that are nearly identical, and not byte for byte."""
    yield from near_findings(data, sets_of_pairs(near_image_pairs(data), len(data)), "by their pixels")


def near_image_pairs(data: AuditData) -> np.ndarray:
    """Find the pairs of rows (int64 (P, 2)) whose images are nearly, and not wholly, identical."""
    if not data.measures.images:
        return np.zeros((0, 2), np.int64)
    rows, pictures = unit_pictures(data)
    pairs = pairs_of(pictures)
    if data.features is not None:
        pairs = np.concatenate([pairs, _pairs_by_features(data.features[rows], pictures)])
    return rows[pairs]


def unit_pictures(data: AuditData) -> tuple[np.ndarray, np.ndarray]:
    """Give one row of each distinct image that is not plain, and its picture of mean 0 and length 1.

    Returns rows (int64 (M,)) and pictures (float32 (M, SIDE²)).
    """
    _, first = np.unique(data.measures.hashes, return_index=True)
    rows = np.array([at for at in np.sort(first).tolist() if data.measures.images[at] is not None], np.int64)
    grey = [image.grey.ravel() for at in rows.tolist() if (image := data.measures.images[at]) is not None]
    pictures = np.array(grey, np.float32).reshape(len(rows), SIDE * SIDE)
    pictures -= pictures.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(pictures, axis=1)
    kept = lengths > MIN_CONTRAST * SIDE
    return rows[kept], pictures[kept] / lengths[kept, None]


def pairs_of(pictures: np.ndarray) -> np.ndarray:
    """Find the pairs (int64 (P, 2)) of pictures (float32 (M, SIDE²)) that are nearly identical.

    In data whose images are all alike, such as digits, a pair must also be much nearer than neighbours usually are.
    """
    if len(pictures) < 2:
        return np.zeros((0, 2), np.int64)
    from scipy.spatial import cKDTree

    low = low_frequencies(pictures)
    most = float(np.sqrt(2 * (1 - MIN_CORRELATION)))
    near, other = cKDTree(low).query(low, k=min(NEIGHBOURS, len(low)), distance_upper_bound=most)
    found = np.argwhere(np.isfinite(near))
    pairs = np.stack([found[:, 0], other[found[:, 0], found[:, 1]]], axis=1)
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    distances = np.linalg.norm(pictures[pairs[:, 0]] - pictures[pairs[:, 1]], axis=1)
    return pairs[distances <= min(most, MIN_SHARPNESS * _usual_distance(pictures))]


def low_frequencies(pictures: np.ndarray) -> np.ndarray:
    """Give the low frequencies (float32 (M, FREQUENCIES²)) of pictures (float32 (M, SIDE²))."""
    from scipy.fft import dctn

    parts = [
        dctn(part.reshape(-1, SIDE, SIDE), axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES]
        for part in np.array_split(pictures, -(-len(pictures) // BLOCK))
    ]
    return np.concatenate(parts).reshape(len(pictures), -1).astype(np.float32)


def _usual_distance(pictures: np.ndarray) -> float:
    """Give the median distance of some pictures to their fourth nearest one, which copies of an image hardly change."""
    some = np.random.default_rng(0).permutation(len(pictures))[:500]
    if len(pictures) < 8:
        return float("inf")
    products = pictures[some] @ pictures.T
    products[np.arange(len(some)), some] = -1
    fourth = np.partition(products, -4, axis=1)[:, -4]
    return float(np.median(np.sqrt(np.maximum(0, 2 - 2 * fourth))))


def _pairs_by_features(features: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Find pairs that a backbone takes for the same, and whose pixels are roughly alike."""
    pairs = alike(features)
    rough = (pictures[pairs[:, 0]] * pictures[pairs[:, 1]]).sum(axis=1)
    return pairs[rough > MIN_ROUGH]
