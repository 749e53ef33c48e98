"""The fields of the wizard: every key has one, and paths are completed and pasted."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import drive, shows, until
from pydantic import Field
from wizard_driving import open_wizard, read, type_in

from deeptune.spec import RunSpec
from deeptune.spec.fields import spec_fields
from deeptune.spec.run_spec import HeadSpec
from tui.draft import Draft
from tui.screens.wizard import WizardScreen
from tui.widgets.wizard.choice import Choice
from tui.widgets.wizard.paths import cleaned, completions
from tui.widgets.wizard.rail import STEPS

OF_PAIRS = "backbone.text."  # shown for images with texts only


def test_a_backbone_of_the_other_modality_is_refused_at_its_field(app):
    async def steps(pilot):
        screen = await read(pilot, "sample:movie_snippets")
        screen.draft.set("backbone.name", "resnet18")
        await pilot.press("ctrl+n")
        await shows(pilot, "'resnet18' is a backbone for image, but the data is text")
        await pilot.press("ctrl+u")
        await type_in(pilot, "gpt3")
        await shows(pilot, "there is no backbone 'gpt3'")

    drive(app, steps)


def test_a_field_that_is_new_in_the_spec_has_its_row(app, monkeypatch):
    class Head(HeadSpec):
        depth: int = Field(3, ge=1, le=9, description="How deep the head is.")

    class Spec(RunSpec):
        head: Head = Field(default_factory=Head)

    monkeypatch.setattr("tui.draft.spec_fields", lambda: spec_fields(Spec))

    async def steps(pilot):
        screen = await open_wizard(pilot)
        await screen.go_to_field("head.depth")
        await shows(pilot, "default 3  How deep the head is. Takes an integer of at least 1 and of at most 9.")
        await type_in(pilot, "5")
        assert screen.draft.values()["head"] == {"depth": 5}

    drive(app, steps, size=(120, 34))


def test_the_default_of_no_field_is_cut(app):
    given = {"tuning.method": "lora", "head.layers": "2"}  # with no backbone, fields of images and of texts are shown

    async def steps(pilot):
        screen = WizardScreen(Draft(given))
        app.push_screen(screen)
        await until(pilot, lambda: screen.focused is not None)
        lines = {}
        for field in spec_fields():
            if not field.key.startswith(OF_PAIRS):
                default = "needed" if field.required else f"default {field.show(field.default) or 'unset'}"
                lines[field.key] = f"{field.key}  {default}"
        for key in sorted(lines, key=lambda key: len(lines[key]))[-20:]:  # where the longest have room, all have
            await screen.go_to_field(key)
            await shows(pilot, lines[key])

    drive(app, steps)


def test_every_field_of_every_step_shows_and_gives_back_its_value(app, monkeypatch):
    given = {
        "data.path": '["a.parquet", "b c.parquet"]', "data.group": "patient", "data.on_bad_sample": "skip",
        "task": "regression", "backbone.name": "resnet18", "backbone.pooling": "max", "head.standardise": "false",
        "tuning.method": "lora", "tuning.lora.targets": "conv1, conv2", "tuning.lora.variant": "dora",
        "train.optimizer": "adafactor", "train.seed": "7", "embed.splits": "val, test", "name": "mine",
    }  # fmt: skip

    async def steps(pilot):
        screen = WizardScreen(Draft(dict(given)))
        app.push_screen(screen)
        await until(pilot, lambda: screen.focused is not None)
        seen = {}
        for step in STEPS:
            await screen.action_go(step)
            form = screen.query_one(f"#step-{step.lower()}").form
            form.unfold()
            screen.refresh_facts()
            await pilot.pause()
            seen |= form.rows
        hidden = {"backbone.max_length", "head.embedding_size", "head.activation"}
        relevant = {key for key in screen.draft.fields if key not in hidden and not key.startswith(OF_PAIRS)}
        assert relevant <= set(seen)
        for key, row in seen.items():
            assert screen.draft.fields[key].parse(row.to_spec()) == screen.draft.value(key), key

    drive(app, steps)


def test_choices_answer_to_arrows_letters_and_the_mouse(app):
    async def steps(pilot):
        screen = await open_wizard(pilot)
        await screen.action_go("Tuning")
        await pilot.pause()
        row = screen.query_one("#step-tuning").form.rows["tuning.method"]
        for key, value in (("right", "full"), ("l", "lora"), ("right", "partial"), ("left", "lora"), ("f", "full")):
            await pilot.press(key)
            assert row.to_spec() == value
        await pilot.click(row.query_one(Choice), offset=(1, 0))
        assert row.to_spec() == "partial"
        await screen.go_to_field("embed.splits")
        await pilot.pause()
        await pilot.press("right", "space")
        assert screen.draft.value("embed.splits") == ["train", "test"]

    drive(app, steps)


@pytest.mark.parametrize(
    ("pasted", "path"),
    [
        ("/data/a.parquet\n", "/data/a.parquet"),
        ("'/my data/a.parquet'", "/my data/a.parquet"),
        ('"/my data/a.parquet" ', "/my data/a.parquet"),
        ("/my\\ data/a.parquet", "/my data/a.parquet"),
        ("file:///my%20data/a.parquet\r\n", "/my data/a.parquet"),
        ("a.parquet\nb.parquet", '["a.parquet", "b.parquet"]'),
        ("'a b.parquet' 'c.parquet'", '["a b.parquet", "c.parquet"]'),
        ("it's.parquet", "it's.parquet"),
        ("sample:openclipart7", "sample:openclipart7"),
        ("\n", ""),
    ],
)
def test_pasted_paths_are_understood(pasted: str, path: str) -> None:
    assert cleaned(pasted) == path


def test_paths_are_completed_by_tab(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    for name in ("scans/left.parquet", "scans/legs.parquet", "scans/notes.txt"):
        (tmp_path / name).touch()
    assert completions("sc") == ["scans/"]
    assert completions("sample:open") == ["sample:openclipart7"]

    async def steps(pilot):
        screen = await open_wizard(pilot)
        await type_in(pilot, "sc")
        await pilot.press("tab")
        await until(pilot, lambda: screen.draft.text("data.path") == "scans/")
        await pilot.press("tab")
        await until(pilot, lambda: screen.draft.text("data.path") == "scans/le")
        await shows(pilot, "left.parquet  legs.parquet")
        await type_in(pilot, "f")
        await pilot.press("tab")
        await until(pilot, lambda: screen.draft.text("data.path") == "scans/left.parquet")
        await pilot.press("tab")
        await until(pilot, lambda: screen.focused is not screen.query_one(".field Input"))

    drive(app, steps)


def test_a_file_is_found_by_walking_through_folders(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[b]data").mkdir()
    pq.write_table(pa.table({"text": ["a"] * 8, "labels": [1, 2] * 4}), tmp_path / "[b]data" / "d.parquet")

    async def steps(pilot):
        screen = await open_wizard(pilot)
        await pilot.press("ctrl+f")
        await shows(pilot, "[b]data/")
        await pilot.press("enter")
        await shows(pilot, "d.parquet")
        await pilot.press("enter")
        await until(pilot, lambda: screen.reader.data.survey)
        assert screen.draft.value("data.path") == str(tmp_path / "[b]data" / "d.parquet")

    drive(app, steps)


def test_down_goes_to_the_next_field_where_not_all_of_them_have_room(app):
    async def steps(pilot):
        screen = await open_wizard(pilot)
        await screen.action_go("Training")
        form = screen.query_one("#step-training").form
        form.unfold()
        screen.refresh_facts()
        await until(pilot, lambda: len([row for row in form.rows.values() if row.display]) > 20)
        seen = []
        for _ in range(20):
            seen.append(app.focused)
            await pilot.press("down")
        assert len(set(seen)) == 20

    drive(app, steps)
