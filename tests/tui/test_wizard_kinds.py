"""The wizard on several labels, several numbers, and an image with a text."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import drive, picture, shows, until
from pictures import png
from wizard_driving import read

from deeptune.spec.toml import validate
from tui.draft import Draft
from tui.screens.wizard import WizardScreen
from tui.widgets.wizard.facts import Data, work_out
from tui.widgets.wizard.summary import facts_text

ROWS = 60


@pytest.fixture
def offline(tmp_path, monkeypatch) -> None:
    for name in ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def table(folder: Path, **columns) -> str:
    file = folder / "data.parquet"
    pq.write_table(pa.table(columns), file)
    return str(file)


def test_the_share_of_a_label_is_that_of_the_rows_that_have_it(app, tmp_path):
    labels = [["a", "b"] if row % 2 else ["a"] for row in range(ROWS)]
    file = table(tmp_path, text=[f"text {row}" for row in range(ROWS)], labels=labels)

    async def steps(pilot):
        screen = await read(pilot, file)
        await shows(pilot, "2 labels; the largest")
        balance = {line.split()[0]: line.split()[-2:] for line in picture(app).splitlines() if "━━" in line}
        assert balance == {"a": ["60", "100.0%"], "b": ["30", "50.0%"]}
        assert "2 labels" in str(screen.query_one("#facts").render())

    drive(app, steps, size=(160, 45))


def test_several_numbers_are_each_drawn_and_counted(app, tmp_path):
    x = [float(row) for row in range(ROWS)]
    file = table(tmp_path, text=[f"text {row}" for row in range(ROWS)], x=x, y=[100 + value for value in x])

    async def steps(pilot):
        given = {"data.path": file, "task": "regression", "data.label": "x, y", "backbone.name": "bert"}
        pilot.app.push_screen(screen := WizardScreen(Draft(given)))
        await until(pilot, lambda: screen.reader.data.survey)
        await shows(pilot, "2 numbers")
        lines = picture(app).splitlines()
        assert [line.split()[-1] for line in lines if "decimal numbers" in line] == ["label", "label"]
        spread = [line.split() for line in str(screen.query_one("#data-balance").render()).splitlines()]
        assert [(name, low, high) for name, low, _, high in spread] == [("x", "0", "59"), ("y", "100", "159")]
        assert screen.facts.counts.trainable == 2 * (768 + 1)

    drive(app, steps, size=(160, 45))


def test_an_image_with_a_text_has_two_backbones_told_apart(app, offline, tmp_path):
    images = [png(colour=(row, 0, 0)) for row in range(ROWS)]
    texts = [f"text {row}" for row in range(ROWS)]
    file = table(tmp_path, image=images, caption=texts, label=["a", "b"] * (ROWS // 2))

    async def steps(pilot):
        given = {"data.path": file, "data.input": "image, caption", "data.label": "label",
                 "backbone.name": "resnet50", "backbone.text.name": "bert"}  # fmt: skip
        pilot.app.push_screen(screen := WizardScreen(Draft(given)))
        await until(pilot, lambda: screen.reader.data.survey)
        await screen.action_go("Backbone")
        await shows(pilot, "text max length")
        await shows(pilot, "94 MB to get")
        assert "trainable" in picture(app)  # beside both names, in 80 columns
        await pilot.press("down", "down", "down")
        await shows(pilot, "out of reach")
        header = next(line for line in picture(app).splitlines() if "params" in line)
        assert header.split() == ["name", "weights", "params", "input"]  # none of them is cut
        await screen.action_go("Review")
        await shows(pilot, "HF_HUB_OFFLINE")
        said = " ".join(str(screen.query_one("#verdict").render()).split())
        assert said.index("HF_HUB_OFFLINE forbids") < said.index("weights of resnet50 are not")

    drive(app, steps)


def test_a_long_name_gives_way_to_the_numbers():
    survey = {"task": "classification", "outputs": 3, "classes": [["a", 9, 1, 1]] * 3, "modality": "image_text",
              "input": ["i", "t"], "rows": {"train": 168, "val": 24, "test": 48}, "lengths": None}  # fmt: skip
    named = {"data.path": "x", "backbone.name": "resnet50", "backbone.text.name": "bert"}
    assert "steps" not in facts_text(work_out(Draft(named), Data(survey=survey), []), 76)  # of an exact head
    draft = Draft({**named, "train.solver": "steps"})
    text = facts_text(work_out(draft, Data(survey=survey), []), 76)
    assert len(text) <= 76
    assert text.startswith("168 rows · 3 classes · resnet50 + bert")
    assert text.endswith("8,451 trainable · ≤ 300 steps")
    assert validate(draft.values()).backbone.text is not None
