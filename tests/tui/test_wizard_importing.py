"""The wizard's data step with a source that is imported."""

from __future__ import annotations

import pytest
from driving import drive, picture, until
from pictures import png
from wizard_driving import open_wizard, paste


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    for place in range(20):
        for name in ("cats", "dogs"):
            file = tmp_path / "photos" / name / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(colour=(place, len(name), name == "cats")))
    return tmp_path / "photos"


def test_a_folder_of_pictures_becomes_a_data_set_on_enter_and_not_while_it_is_typed(app, photos, tmp_path):
    async def steps(pilot):
        screen = await open_wizard(pilot)
        await paste(pilot, str(photos))
        await until(pilot, lambda: screen.reader.data.problem)
        assert "has not been imported yet" in screen.reader.data.problem.message
        assert not list((tmp_path / "cache").rglob("*.parquet"))
        await pilot.press("enter")
        await until(pilot, lambda: screen.reader.data.survey)
        await pilot.pause()
        assert screen.reader.data.overview["rows"] == 40
        shown = picture(pilot.app)
        assert "cats" in shown
        assert "was imported: 40 rows" in shown

    drive(app, steps, size=(160, 45))


def test_a_bar_shows_how_far_the_import_is(app):
    async def steps(pilot):
        screen = await open_wizard(pilot)
        reader = screen.reader
        reader.post_message(reader.Imported(reader._number, 300, 1200))
        await until(pilot, lambda: "300 of 1,200" in picture(pilot.app))
        assert "importing ━━━━━─" in picture(pilot.app)

    drive(app, steps)
