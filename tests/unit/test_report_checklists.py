"""Each place that a checklist names is on the page, and a link leads there."""

from __future__ import annotations

import json

import pytest
from reports import classification_run, read, regression_run

from deeptune.report.checklists import AUTHOR, CHECKLISTS


@pytest.mark.parametrize("make", [classification_run, regression_run])
def test_each_place_is_a_heading_of_the_page(tmp_path, make):
    make(tmp_path)
    _, page = read(tmp_path)
    headings = {attributes["id"] for tag, attributes in page.tags if tag == "h2"}
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    found = json.loads((tmp_path / "report.json").read_text())["sections"]["checklists"]["checklists"]
    assert found.keys() == CHECKLISTS.keys()
    for rows in found.values():
        assert any(row["anchor"] for row in rows)
        for row in rows:
            assert (row["where"] is None) == (row["anchor"] is None)
            if row["anchor"] is not None:
                assert row["anchor"] in headings, row
                assert f"#{row['anchor']}" in links
                assert row["where"] in page.text
    assert AUTHOR in page.text


def test_nothing_is_ticked_that_a_page_lacks(tmp_path):
    """Neither explanations nor subgroups were asked for; a number has no operating points and no recalibration."""
    regression_run(tmp_path)
    read(tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())["sections"]["checklists"]["checklists"]
    claim, tripod = ({row["item"]: row["anchor"] for row in found[name]} for name in ("CLAIM", "TRIPOD+AI"))
    assert claim["31"] is claim["32"] is tripod["14"] is tripod["15"] is tripod["12f"] is tripod["13"] is None
    assert claim["38"] == "agreement"
    assert claim["20"] == "trained"  # groups are kept together


@pytest.mark.parametrize(("name", "items"), [("CLAIM", 44), ("TRIPOD+AI", 27)])
def test_each_item_of_the_editions_of_2024_has_one_line(name, items):
    numbers = []
    for item in CHECKLISTS[name]:
        first, _, last = item.number.rstrip("abcdefg").partition("–")
        numbers += range(int(first), int(last or first) + 1)
    assert sorted(set(numbers)) == list(range(1, items + 1))
    assert numbers == sorted(numbers)
