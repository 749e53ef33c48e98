"""Files to import, and what an import made of them."""

from __future__ import annotations

import csv

import pyarrow.parquet as pq
from pictures import png

from deeptune.importing import Options, import_data


def put(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if content is None else content)


def imported(source, tmp_path, **options):
    done = import_data(source, tmp_path / "out.parquet", Options(**options))
    return pq.read_table(tmp_path / "out.parquet"), done


def reasons(done):
    with open(done.left_out_file, encoding="utf-8") as file:
        return dict(list(csv.reader(file))[1:])
