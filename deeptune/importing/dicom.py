"""DICOM files (https://www.dicomstandard.org) as images of their real bit depth, and patients as hashed groups.

Stored values become what they mean: rescale slope and intercept, or a modality LUT, are applied (PS3.3 C.11.1), and
MONOCHROME1, where the least value is white, is inverted. With `window`, values are those that the file's VOI LUT or
window shows (PS3.3 C.11.2).
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deeptune.errors import DataError, SpecError, first_line
from deeptune.formatting import counted
from deeptune.importing.options import Options
from deeptune.importing.patient_salt import patient_salt
from deeptune.importing.reader import Shot
from deeptune.importing.stored_values import stored, whole

KEPT = ("Modality", "BodyPartExamined", "ViewPosition", "Laterality", "Manufacturer")
# Attributes that identify a person, of those in PS3.15 table E.1-1 that are most often filled in.
IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientAddress", "OtherPatientIDs",
    "PatientTelephoneNumbers", "AccessionNumber", "StudyDate", "StudyTime", "StudyID", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPInstanceUID", "InstitutionName", "InstitutionAddress", "ReferringPhysicianName",
    "PerformingPhysicianName", "OperatorsName", "StationName", "DeviceSerialNumber",
)  # fmt: skip
_DECODERS = "which another decoder may read: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pyjpegls"
MAX_VALUES = 512 * 2**20  # pixels of all frames of a file that are decoded at once


class DicomFiles:
    """Reads DICOM files; `fields` are the columns that they have beside the image."""

    def __init__(self, options: Options) -> None:
        try:
            import pydicom
        except ImportError as error:
            raise DataError(
                "the source holds DICOM files, and pydicom, which reads them, is not installed",
                hint='Install it: pip install "deeptune[dicom]"',
            ) from error
        self._pydicom, self._window = pydicom, options.window
        self._salt = patient_salt() if options.salt is None else options.salt
        self._lock, self._found = threading.Lock(), Counter[str]()
        for name in options.tags:
            if pydicom.datadict.tag_for_keyword(name) is None:
                raise SpecError(
                    f"--tag: {name!r} is not a DICOM attribute", hint="Write its keyword, such as InstitutionName."
                )
        self._tags = tuple(dict.fromkeys((*KEPT, *options.tags)))
        self._asked = frozenset(options.tags)
        texts = [pa.field(_column(name), pa.string()) for name in self._tags]
        self.fields = [pa.field("patient", pa.string()), pa.field("frame", pa.int32()), *texts]

    def read(self, path: Path, name: str) -> list[Shot]:
        """Return the frames of a file. Raises DataError with a reason that begins with a verb."""
        try:
            with warnings.catch_warnings(action="ignore"):
                data = self._pydicom.dcmread(path, force=False)
                if "PixelData" not in data and "FloatPixelData" not in data and "DoubleFloatPixelData" not in data:
                    raise DataError(_without_pixels(data))
                _require_size(data)
                frames = self._values(data)
        except DataError:
            raise
        except self._pydicom.errors.InvalidDicomError:
            raise DataError("is not a DICOM file: it has no DICM mark") from None
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or first_line(error)}") from None
        except Exception as error:  # pydicom raises whatever a damaged element ran into
            if "plugins" in str(error):
                raise DataError(f"is compressed as {_compression(data)}, {_DECODERS}") from None
            raise DataError(f"cannot be decoded ({first_line(error)})") from None
        facts = {"patient": self._patient(data, name)}
        facts |= {_column(tag): text for tag in self._tags if (text := _text(data, tag))}
        self._note(data)
        return [Shot(stored(frame), {**facts, "frame": number}) for number, frame in enumerate(frames)]

    def _values(self, data: Any) -> np.ndarray:
        """Return frames (F, H, W) of grey, or (F, H, W, 3) of colours."""
        from pydicom.pixels import apply_color_lut

        values = data.pixel_array
        kind, bits = str(data.get("PhotometricInterpretation", "")), int(data.get("BitsStored", 16))
        if kind == "PALETTE COLOR":
            values = apply_color_lut(values, data)
            values = values if values.dtype == np.uint8 else (values >> 8).astype(np.uint8)
        elif int(data.get("SamplesPerPixel", 1)) == 1:
            values = self._grey(data, values, kind, bits)
        elif values.dtype != np.uint8:
            raise DataError(f"holds colours of {bits} bits, which no lossless format here has: only grey may be deep")
        colours = values.ndim >= 3 and values.shape[-1] in (3, 4) and kind not in ("MONOCHROME1", "MONOCHROME2")
        return values if values.ndim == 3 + colours else values[None]

    def _grey(self, data: Any, values: np.ndarray, kind: str, bits: int) -> np.ndarray:
        from pydicom.pixels import apply_modality_lut, apply_voi_lut

        signed = bool(data.get("PixelRepresentation", 0))
        ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1], np.int64)
        means = whole(apply_modality_lut(values, data))
        ends = whole(apply_modality_lut(ends, data)) if "ModalityLUTSequence" not in data else _ends(means)
        if self._window and ("WindowCenter" in data or "VOILUTSequence" in data):
            if "VOILUTSequence" in data:
                ends = np.array([0, 2 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1])
            means, ends = _windowed(apply_voi_lut(means, data), ends, bits), np.array([0, 2**bits - 1])
        if kind == "MONOCHROME1":
            means = ends.min() + ends.max() - means
        return means.astype(np.uint8) if bits <= 8 and means.min() >= 0 and means.max() <= 255 else means

    def _patient(self, data: Any, name: str) -> str:
        """Return a code for the patient, else for the study, else for the file: the same for the same salt."""
        for tag in ("PatientID", "StudyInstanceUID"):
            if text := _text(data, tag):
                if tag == "StudyInstanceUID":
                    self._count("without PatientID")
                return hashlib.blake2b(f"{tag}:{text}".encode(), key=self._salt, digest_size=8).hexdigest()
        self._count("without PatientID")
        return hashlib.blake2b(f"file:{name}".encode(), key=self._salt, digest_size=8).hexdigest()

    def _note(self, data: Any) -> None:
        for tag in IDENTIFYING:
            if tag not in self._asked and _text(data, tag):
                self._count(tag)
        if _text(data, "BurnedInAnnotation") == "YES":
            self._count("burned in")

    def _count(self, what: str) -> None:
        with self._lock:
            self._found[what] += 1

    def finished(self) -> list[str]:
        found = [f"{tag} ({self._found[tag]:,})" for tag in IDENTIFYING if self._found[tag]]
        texts = ["column patient: PatientID hashed with a secret salt; `--group patient` keeps patients in one split"]
        if found:
            texts.append(f"identifying attributes that were dropped (files): {', '.join(found)}")
        if count := self._found["without PatientID"]:
            files = counted(count, "file has", "files have")
            texts.append(f"{files} no PatientID: their study, or else the file, stands for the patient")
        if count := self._found["burned in"]:
            files = counted(count, "file says", "files say")
            texts.append(f"{files} that text is burned into their pixels, which may name the patient")
        return texts


def _require_size(data: Any) -> None:
    claimed = int(data.get("Rows", 0)) * int(data.get("Columns", 0)) * int(data.get("NumberOfFrames", 1) or 1)
    claimed *= int(data.get("SamplesPerPixel", 1))
    if claimed > MAX_VALUES:
        raise DataError(f"claims {claimed:,} values; the limit is {MAX_VALUES:,}")


def _compression(data: Any) -> str:
    return str(getattr(data.file_meta.get("TransferSyntaxUID"), "name", "an unknown kind"))


def _without_pixels(data: Any) -> str:
    """Say why a file holds no image: it is of a kind that never has one, or its pixels were left out of it."""
    kind = getattr(data.get("SOPClassUID"), "name", "").strip()
    if data.get("SOPClassUID") is None:
        return (
            "holds no image: it is an index of files (DICOMDIR)"
            if "DirectoryRecordSequence" in data
            else ("holds no image, and does not say what it is")
        )
    if "Rows" in data or kind.endswith("Image Storage"):
        return f"holds no pixels, only the attributes of an image ({kind.removesuffix(' Storage')})"
    return f"holds no image: its kind is {kind}"


def _text(data: Any, tag: str) -> str:
    value = data.get(tag)
    return "" if value is None else str(value).strip()


def _column(tag: str) -> str:
    """Return `BodyPartExamined` as `body_part_examined`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in tag).lstrip("_")


def _ends(values: np.ndarray) -> np.ndarray:
    return np.array([values.min(), values.max()])


def _windowed(values: np.ndarray, ends: np.ndarray, bits: int) -> np.ndarray:
    """Apply a VOI LUT or window, of which `ends` are the least and the greatest, as 0 to the most of `bits`."""
    low, high = float(ends.min()), float(ends.max())
    top = 2**bits - 1
    return np.rint((values.astype(np.float64) - low) * top / ((high - low) or 1)).clip(0, top).astype(np.int64)
