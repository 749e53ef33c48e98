"""Explanations of the worst predictions: made from the page Examples, and drawn there."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import drive, monitor, picture, shows, until
from pictures import png

from deeptune.data.run_samples import RunSamples
from deeptune.runs import write_json
from deeptune.runs.files import read_json
from deeptune.show.explanations import StoredExplanation, read_explanations
from tui.screens.ask import AskScreen
from tui.widgets.monitor.examples import worst_examples
from tui.widgets.monitor.explainer import tokens_content
from tui.widgets.picture import Picture

LOADING = 180.0  # seconds that a process may take that loads PyTorch on a busy machine


@pytest.fixture
def wrong(finished_run):
    """A finished run that has every test row wrong."""
    table = pq.read_table(finished_run.predictions)
    values = read_json(finished_run.labels)["values"]
    said = [values[(values.index(truth) + 1) % len(values)] for truth in table["truth"].to_pylist()]
    column = pa.array(said, table.schema.field("prediction").type)
    pq.write_table(table.set_column(table.schema.get_field_index("prediction"), "prediction", column),
                   finished_run.predictions)  # fmt: skip
    return finished_run


def test_rows_from_the_cursor_on_are_explained_and_the_map_is_drawn(wrong):
    app = monitor(wrong)

    async def steps(pilot):
        await shows(pilot, "✓ done")
        await pilot.press("6")
        await shows(pilot, "row ")
        await pilot.press("down", "x")
        await shows(pilot, "explaining")
        await shows(pilot, "gain over", seconds=LOADING)
        below_the_head = picture(app).partition("predicted")[2].partition("\n")[2]
        listed = re.findall(r"(•?)\S+ → \S+ +row (\d+)", below_the_head)
        explained = {int(row) for mark, row in listed if mark}
        assert set(read_explanations(wrong)) >= explained
        stored = json.loads((wrong.explanations / "explanations.json").read_text())
        assert stored["verdict"]["text"].partition(":")[0] in " ".join(picture(app).split())
        assert int(listed[0][1]) not in read_explanations(wrong)  # the row above the cursor

    drive(app, steps, size=(160, 45))


def test_why_there_are_no_explanations_is_said_whole(wrong, tmp_path):
    (wrong.best / "manifest.json").write_text("{")
    app = monitor(wrong)

    async def steps(pilot):
        await shows(pilot, "✓ done")
        await pilot.press("6")
        await shows(pilot, "row ")
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, AskScreen), seconds=LOADING)
        await shows(pilot, "cannot be read")

    drive(app, steps, size=(100, 34))


def test_a_session_that_may_only_look_explains_nothing(wrong):
    app = monitor(wrong, read_only=True)

    async def steps(pilot):
        await shows(pilot, "✓ done")
        await pilot.press("6")
        await shows(pilot, "row ")
        assert "Explain" not in picture(app)
        await pilot.press("x")
        await pilot.pause(0.3)
        assert "explaining" not in picture(app)

    drive(app, steps)


def test_without_colours_bold_is_for_a_prediction_and_nothing_else(finished_run):
    one = StoredExplanation(0.1, "", None, ("a ", "b ", "c ", "d"), (1.0, 0.3, -1.0, 0.01))
    drawn = tokens_content(one, color=False)
    assert [str(span.style) for span in drawn.spans][:3] == ["bold $primary", "bold $primary", "underline $error"]
    assert drawn.plain.endswith("bold: for this prediction; underlined: against it")


def test_an_image_with_a_text_has_its_map_and_its_tokens(wrong, monkeypatch):
    """At 80 × 24 too, below the longest sentence on a set."""
    row = worst_examples(wrong)[0].row
    wrong.explanations.mkdir()
    (wrong.explanations / "row.png").write_bytes(png(60, 28))
    no = "Not shown to be better than random: gain over random orders -0.05 "
    no += "(95% interval -0.23 to 0.13, "
    write_json(
        wrong.explanations / "explanations.json",
        {
            "verdict": {"text": f"Of the images: {no}n = 8). Do not interpret these. Of the texts: {no}n = 8)."},
            "rows": [
                {"row": row, "kind": "image", "gain": 0.25, "picture": "row.png"},
                {"row": row, "kind": "text", "gain": 0.5, "tokens": ["ash ", "tree"], "scores": [1.0, 0.0]},
            ],
        },
    )
    read = RunSamples.read

    def with_text(self, split, at):
        return replace(read(self, split, at), text="ash tree")

    monkeypatch.setattr(RunSamples, "read", with_text)
    app = monitor(wrong)

    async def steps(pilot):
        await shows(pilot, "✓ done")
        await pilot.press("6")
        await shows(pilot, "0.50 for the text")
        await shows(pilot, "ash tree")
        assert app.screen.query_one(Picture).size.height > 2

    drive(app, steps, size=(80, 24))


def test_tokens_speak_for_the_prediction_in_bold_and_against_it_underlined(finished_run):
    finished_run.explanations.mkdir()
    row = {"row": 3, "gain": 0.25, "tokens": ["good ", "[b]plot[/b] ", "the"], "scores": [0.4, -0.3, 0.01]}
    write_json(finished_run.explanations / "explanations.json", {"verdict": {"text": "Fine."}, "rows": [row]})
    found = read_explanations(finished_run)
    scores = (1.0, pytest.approx(-0.75), pytest.approx(0.025))
    assert found[3] == StoredExplanation(0.25, "Fine.", None, ("good ", "[b]plot[/b] ", "the"), scores)
    drawn = tokens_content(found[3])
    legend = "\n\nblue: for this prediction; underlined: against it"
    assert drawn.plain == f"good [b]plot[/b] the{legend}"
    assert [str(span.style) for span in drawn.spans][:2] == ["bold $primary", "bold underline $error"]
    (finished_run.explanations / "explanations.json").write_text('{"rows": 3}')
    assert read_explanations(finished_run) == {}
