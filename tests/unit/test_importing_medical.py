"""Importing DICOM files and NIfTI volumes: values, bit depth, patients."""

from __future__ import annotations

import csv
import io
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from deeptune.errors import DataError, SpecError
from deeptune.importing import Options, import_data
from deeptune.importing.patient_salt import patient_salt

pydicom = pytest.importorskip("pydicom")


@pytest.fixture(autouse=True)
def _own_salt(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def dicom(path, values, *, patient="P1", kind="MONOCHROME2", bits=12, **attributes):
    """Write a DICOM file of grey values (H, W) or (F, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.generate_uid()
    if patient:
        data.PatientID, data.PatientName = patient, "Doe^Jane"
    data.Rows, data.Columns = values.shape[-2:]
    if values.ndim == 3:
        data.NumberOfFrames = len(values)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, kind
    data.BitsAllocated, data.BitsStored, data.HighBit = (16, bits, bits - 1) if bits > 8 else (8, bits, bits - 1)
    data.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in attributes.items():
        setattr(data, name, value)
    data.PixelData = values.astype(np.uint8 if bits <= 8 else values.dtype).tobytes()
    data.save_as(path, enforce_file_format=True)


def pixels(table, row=0):
    return np.asarray(Image.open(io.BytesIO(table["images"][row].as_py())))


def imported(source, tmp_path, **options):
    done = import_data(source, tmp_path / "out.parquet", Options(**options))
    return pq.read_table(tmp_path / "out.parquet"), done


GREY = np.arange(64, dtype=np.uint16).reshape(8, 8) * 60


def test_values_of_12_bits_stay_so(tmp_path):
    dicom(tmp_path / "d" / "1.dcm", GREY)
    assert np.array_equal(pixels(imported(tmp_path / "d", tmp_path)[0]), GREY)


def test_slope_and_intercept_give_hounsfield_units(tmp_path):
    dicom(tmp_path / "d" / "1.dcm", GREY, RescaleSlope="2", RescaleIntercept="-1024")
    assert np.array_equal(pixels(imported(tmp_path / "d", tmp_path)[0]), GREY.astype(int) * 2 - 1024)


def test_a_slope_that_is_no_integer_gives_floating_point(tmp_path):
    dicom(tmp_path / "d" / "1.dcm", GREY, RescaleSlope="0.5", RescaleIntercept="0")
    assert np.allclose(pixels(imported(tmp_path / "d", tmp_path)[0]), GREY * 0.5)


def test_monochrome1_is_inverted_within_its_bits(tmp_path):
    dicom(tmp_path / "d" / "1.dcm", GREY, kind="MONOCHROME1")
    assert np.array_equal(pixels(imported(tmp_path / "d", tmp_path)[0]), 4095 - GREY.astype(int))


def test_a_window_is_applied_where_it_is_asked_for(tmp_path):
    dicom(tmp_path / "d" / "1.dcm", GREY, WindowCenter="1000", WindowWidth="200")
    found = pixels(imported(tmp_path / "d", tmp_path, window=True)[0])
    assert found[GREY < 900].max() == 0
    assert found[GREY > 1100].min() == 4095


def test_eight_bits_stay_eight(tmp_path):
    dicom(tmp_path / "d" / "1.dcm", np.arange(64, dtype=np.uint16).reshape(8, 8), bits=8)
    assert pixels(imported(tmp_path / "d", tmp_path)[0]).dtype == np.uint8


def test_frames_are_rows_of_one_patient(tmp_path):
    dicom(tmp_path / "d" / "1.dcm", np.stack([GREY, GREY + 1, GREY + 2]))
    table, _ = imported(tmp_path / "d", tmp_path)
    assert table["frame"].to_pylist() == [0, 1, 2]
    assert len(set(table["patient"].to_pylist())) == 1
    assert np.array_equal(pixels(table, 2), GREY + 2)


def test_patients_are_hashed_the_same_way_each_time_and_not_without_the_salt(tmp_path):
    for name, patient in (("1", "P1"), ("2", "P1"), ("3", "P2")):
        dicom(tmp_path / "d" / f"{name}.dcm", GREY, patient=patient)
    first = imported(tmp_path / "d", tmp_path)[0]["patient"].to_pylist()
    assert first[0] == first[1] != first[2]
    assert first == imported(tmp_path / "d", tmp_path)[0]["patient"].to_pylist()
    assert first != imported(tmp_path / "d", tmp_path, salt=b"another")[0]["patient"].to_pylist()
    assert not {b"P1", patient_salt()} & {value.encode() for value in first}


def test_the_salt_is_readable_by_its_owner_alone(tmp_path):
    patient_salt()
    assert (tmp_path / "config" / "deeptune" / "patient-salt").stat().st_mode & 0o777 == 0o600


def test_identifying_attributes_are_dropped_and_listed(tmp_path):
    dicom(tmp_path / "d" / "1.dcm", GREY, InstitutionName="General Hospital")
    _, done = imported(tmp_path / "d", tmp_path)
    content = (tmp_path / "out.parquet").read_bytes()
    assert b"Doe" not in content
    assert b"General Hospital" not in content
    assert any("PatientName (1)" in note and "InstitutionName (1)" in note for note in done.notes)


def test_an_attribute_is_kept_on_request(tmp_path):
    dicom(tmp_path / "d" / "1.dcm", GREY, InstitutionName="General Hospital")
    table, _ = imported(tmp_path / "d", tmp_path, tags=("InstitutionName",))
    assert table["institution_name"].to_pylist() == ["General Hospital"]
    with pytest.raises(SpecError, match="'Institution' is not a DICOM attribute"):
        imported(tmp_path / "d", tmp_path, tags=("Institution",))


def test_files_without_suffix_are_known_by_their_mark(tmp_path):
    dicom(tmp_path / "d" / "a" / "IM0001", GREY)
    dicom(tmp_path / "d" / "b" / "1.2.840.113619", GREY)
    assert imported(tmp_path / "d", tmp_path)[0]["labels"].to_pylist() == ["a", "b"]


def test_files_of_pydicom_are_read_or_left_out_with_a_reason(tmp_path):
    names = (
        "CT_small.dcm",
        "MR_small_RLE.dcm",
        "SC_rgb_rle.dcm",
        "examples_palette.dcm",
        "rtplan.dcm",
        "MR_truncated.dcm",
    )
    (tmp_path / "d").mkdir()
    for name in names:
        shutil.copy(pydicom.data.get_testdata_file(name, download=False), tmp_path / "d" / name)
    table, done = imported(tmp_path / "d", tmp_path)
    assert set(table["path"].to_pylist()) == set(names[:4])
    assert done.left_out == 2


def test_files_without_pixels_say_what_they_hold(tmp_path):
    (tmp_path / "d").mkdir()
    for name in ("CT_small.dcm", "rtplan.dcm", "DICOMDIR-empty.dcm"):
        shutil.copy(pydicom.data.get_testdata_file(name, download=False), tmp_path / "d" / name)
    header = pydicom.dcmread(tmp_path / "d" / "CT_small.dcm")
    del header.PixelData
    header.save_as(tmp_path / "d" / "header.dcm")
    with open(imported(tmp_path / "d", tmp_path)[1].left_out_file, encoding="utf-8") as file:
        reasons = dict(list(csv.reader(file))[1:])
    assert reasons == {
        "header.dcm": "holds no pixels, only the attributes of an image (CT Image)",
        "rtplan.dcm": "holds no image: its kind is RT Plan Storage",
        "DICOMDIR-empty.dcm": "holds no image: it is an index of files (DICOMDIR)",
    }


def test_a_compression_without_a_decoder_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    shutil.copy(
        pydicom.data.get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False), tmp_path / "d" / "1.dcm"
    )
    with pytest.raises(DataError, match=r"JPEG-LS Lossless.*pip install"):
        imported(tmp_path / "d", tmp_path)


def test_a_table_may_name_dicom_files(tmp_path):
    for number in range(3):
        dicom(tmp_path / "d" / "files" / f"{number}.dcm", GREY + number, patient=f"P{number}")
    (tmp_path / "d" / "labels.csv").write_text("file,dx\n0,a\n1,b\n2,a\n")
    table, done = imported(tmp_path / "d", tmp_path, label="dx", input="file")
    assert table["labels"].to_pylist() == ["a", "b", "a"]
    assert np.array_equal(pixels(table, 1), GREY + 1)
    assert done.roles["group"] == "patient"


def test_volumes_of_one_name_in_several_folders_are_several(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for patient in ("one", "two"):
        (tmp_path / "n" / patient).mkdir(parents=True)
        values = np.arange(4 * 5 * 2, dtype=np.int16).reshape(4, 5, 2)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "n" / patient / "anat.nii.gz")
    table, _ = imported(tmp_path / "n", tmp_path)
    assert sorted(table["volume"].unique().to_pylist()) == ["one/anat.nii.gz", "two/anat.nii.gz"]


def test_a_volume_is_its_slices(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
    values[:, :, 1] = 7  # of one value
    (tmp_path / "n").mkdir()
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "n" / "v.nii.gz")
    table, done = imported(tmp_path / "n", tmp_path)
    assert table["slice"].to_pylist() == [0, 2]
    assert np.array_equal(pixels(table, 1), np.flipud(values[:, :, 2].T))
    assert done.roles["group"] == "volume"
