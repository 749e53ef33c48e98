"""Names of files that are data: Parquet, and what is imported (`importing/detect.py`)."""

from __future__ import annotations

PARQUET = ".parquet"
TABLES = (".csv", ".tsv", ".tab", ".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".jsonl", ".ndjson", ".json", ".ft.txt")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# A table of lines that is compressed, as `reviews.csv.gz`.
PACKED = tuple(
    f"{table}{one}"
    for table in (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".ft.txt")
    for one in (".gz", ".bz2", ".xz")
)
IMPORTED = (*TABLES, *ARCHIVES, *PACKED, ".npz", ".arrow", ".feather", ".dcm", ".dicom", ".nii", ".nii.gz")

ONE_SOURCE = "An import takes one source: put the files into a folder, and import the folder."


def is_data(name: str) -> bool:
    """Check whether a file is data that a run takes, by its name."""
    return name.lower().endswith((PARQUET, *IMPORTED))
