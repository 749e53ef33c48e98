"""NIfTI volumes (https://nifti.nimh.nih.gov) as slices: those across the axis from foot to head, seen from the front.

A volume is turned to the nearest RAS+ orientation first, so that slices of different scanners look the same way.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa

from deeptune.errors import DataError, first_line
from deeptune.importing.reader import Shot
from deeptune.importing.stored_values import stored, whole

FIELDS = [pa.field("volume", pa.string()), pa.field("slice", pa.int32()), pa.field("time", pa.int32())]
MAX_VALUES = 512 * 2**20  # values of a volume that is decoded at once


def slices(path: Path, name: str) -> list[Shot]:
    """Return the slices of a volume that are not of one value.

    Raises DataError with a reason that begins with a verb.
    """
    try:
        import nibabel
    except ImportError as error:
        raise DataError(
            "is a NIfTI volume, and nibabel, which reads it, is not installed: pip install 'deeptune[nifti]'"
        ) from error
    try:
        with warnings.catch_warnings(action="ignore"):
            image = nibabel.as_closest_canonical(nibabel.load(path))
            if np.prod(image.shape, dtype=float) > MAX_VALUES:
                raise DataError(f"claims {np.prod(image.shape, dtype=float):,.0f} values; the limit is {MAX_VALUES:,}")
            values = np.asanyarray(image.dataobj)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or first_line(error)}") from None
    except Exception as error:  # nibabel raises whatever a damaged header ran into
        raise DataError(f"cannot be decoded ({first_line(error)})") from None
    if values.dtype.kind not in "iuf" or values.ndim not in (2, 3, 4):
        raise DataError(f"holds {values.dtype} of {values.ndim} dimensions, and slices need numbers of 3 or 4")
    volumes = values.reshape(*values.shape[:2], -1, 1) if values.ndim < 4 else values
    found = []
    for time in range(volumes.shape[3]):
        for number in range(volumes.shape[2]):
            frame = np.flipud(volumes[:, :, number, time].T)
            if not np.isfinite(frame).all():
                frame = np.nan_to_num(frame, nan=0.0, posinf=0.0, neginf=0.0)
            if frame.min() < frame.max():
                facts = {"volume": name, "slice": number, "time": time}
                found.append(Shot(stored(whole(frame)), facts))
    if not found:
        raise DataError("holds one value throughout")
    return found
