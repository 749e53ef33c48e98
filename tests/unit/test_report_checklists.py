"""Each place that a checklist names is on the page."""

from __future__ import annotations

import html
import json

import pytest
from reports import classification_run, regression_run

from deeptune.report import write_report
from deeptune.report.checklists import AUTHOR, CHECKLISTS


@pytest.mark.parametrize("make", [classification_run, regression_run])
def test_each_place_is_a_heading_of_the_page(tmp_path, make):
    make(tmp_path)
    write_report(tmp_path)
    page = html.unescape((tmp_path / "report.html").read_text())
    found = json.loads((tmp_path / "report.json").read_text())["sections"]["checklists"]["checklists"]
    assert found.keys() == CHECKLISTS.keys()
    for rows in found.values():
        for row in rows:
            place = row["where"]
            if place is not None and place != "Warnings":  # a run without one has none to show
                heading = place.partition(":")[0].partition(";")[0]
                assert f">{heading}" in page, row
    assert AUTHOR in page
    explained = next(row for row in found["CLAIM"] if row["item"] == "31")
    assert explained["where"] is None
