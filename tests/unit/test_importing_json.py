"""JSON files that hold all rows in one value, in the forms that pandas and web services write."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from deeptune.importing import Options, import_data

ROWS = [{"text": f"text {i}", "label": "a" if i % 2 else "b", "score": i / 2} for i in range(12)]
FRAME = pd.DataFrame(ROWS)
FORMS = {
    "list": json.dumps(ROWS),
    "a line each": "\n".join(map(json.dumps, ROWS)),
    "under data": json.dumps({"version": "1", "count": 12, "data": ROWS}),
    "indented": json.dumps({"data": ROWS}, indent=2),
    "columns of lists": json.dumps({name: FRAME[name].tolist() for name in FRAME}),
    **{f"pandas {form}": FRAME.to_json(orient=form) for form in ("records", "columns", "index", "split", "table")},
}


def imported(tmp_path, content):
    source = tmp_path / "d.json"
    source.write_text(content)
    done = import_data(source, tmp_path / "out.parquet", Options())
    return pq.read_table(tmp_path / "out.parquet"), done


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_rows(tmp_path, form):
    table, _ = imported(tmp_path, FORMS[form])
    assert table.select(["text", "label", "score"]).to_pylist() == ROWS


def test_objects_under_names_keep_them(tmp_path):
    table, _ = imported(tmp_path, json.dumps({f"p{i}": row for i, row in enumerate(ROWS)}))
    assert table["key"].to_pylist() == [f"p{i}" for i in range(12)]
    assert table.num_rows == 12


def test_one_object_is_one_row(tmp_path):
    table, _ = imported(tmp_path, json.dumps({"text": "a", "label": "b"}))
    assert table.select(["text", "label"]).to_pylist() == [{"text": "a", "label": "b"}]
