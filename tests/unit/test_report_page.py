"""The page of a report can be read without a mouse, without eyes, and on paper."""

from __future__ import annotations

import re

import pytest
from reports import classification_run, read, regression_run

# Stopped early on purpose: the curves need epochs that differ.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module", params=[classification_run, regression_run])
def page(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    request.param(directory)
    return read(directory)


def test_headings_are_in_order_and_each_part_has_one(page):
    html, parsed = page
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert set(levels[1:]) == {2}
    folds = [attributes for tag, attributes in parsed.tags if tag == "details" and attributes.get("class") == "section"]
    assert len(folds) == len(levels) - 1
    assert html.count('<summary><h2 id="') == len(folds)
    assert [attributes for attributes in folds if "open" not in attributes]  # the checklists, which few read


def test_the_list_of_sections_leads_to_each_heading(page):
    _, parsed = page
    headings = [attributes["id"] for tag, attributes in parsed.tags if tag == "h2"]
    links = [attributes["href"] for tag, attributes in parsed.tags if tag == "a"]
    assert links[: len(headings)] == [f"#{name}" for name in headings]
    assert {link.removeprefix("#") for link in links} <= set(headings)


def test_each_picture_has_an_alternative_text(page):
    html, parsed = page
    pictures = [attributes for tag, attributes in parsed.tags if tag == "svg"]
    captions = re.findall(r"</svg>\s*<figcaption>(.*?)</figcaption>", html)
    assert len(pictures) == len(captions) > 2
    assert [attributes["role"] for attributes in pictures] == ["img"] * len(pictures)
    assert re.findall(r'<svg role="img" aria-label="(.*?)"', html) == captions
    assert all(attributes.get("alt") for tag, attributes in parsed.tags if tag == "img")


def test_what_scrolls_takes_the_keyboard_and_has_a_name(page):
    _, parsed = page
    scrolling = [attributes for tag, attributes in parsed.tags if attributes.get("class") == "scroll" or tag == "pre"]
    assert scrolling
    assert all(attributes.get("tabindex") == "0" for attributes in scrolling)
    named = [attributes["aria-label"] for _, attributes in parsed.tags if attributes.get("class") == "scroll"]
    assert all(named)


def test_tables_name_their_columns_and_rows(page):
    _, parsed = page
    heads = [attributes for tag, attributes in parsed.tags if tag == "th"]
    assert heads
    assert {attributes.get("scope") for attributes in heads} == {"col", "row"}


@pytest.mark.parametrize(
    ("ground", "cell", "inks"),
    [("#ffffff", (0, 114, 178), ("#1b1f24",)), ("#14171b", (42, 129, 184), ("#e4e7eb",))],
)
def test_numbers_of_the_confusion_matrix_stand_out_from_every_share(page, ground, cell, inks):
    """WCAG's contrast of 4.5, for each colour between no share and all rows."""
    html, _ = page
    assert "calc(var(--share) * .65)" in html
    assert f"--cell: {', '.join(map(str, cell))}" in html
    assert f"--page: {ground}" in html
    for ink in inks:
        assert f"--text: {ink}" in html
        for share in range(101):
            mixed = [back + (front - back) * 0.65 * share / 100 for back, front in zip(rgb(ground), cell, strict=True)]
            assert contrast(mixed, rgb(ink)) >= 4.5, share


def rgb(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: list[float]) -> float:
    parts = [value / 255 for value in colour]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
