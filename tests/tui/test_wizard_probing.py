"""Backbones ranked on the draft's rows from the wizard: budget, progress, scores in the table, cancelling, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from driving import drive, picture, shows, until
from wizard_driving import open_wizard, read

from tui.screens.ask import AskScreen
from tui.widgets.wizard.probing import Probing, advice_in

LOADING = 180.0  # seconds that a process may take that loads PyTorch on a busy machine


@pytest.fixture
def only_resnet18(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the weights of one small backbone, and an empty cache."""
    import torch
    from torchvision.models import ResNet18_Weights, resnet18

    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(resnet18().state_dict(), folder / Path(ResNet18_Weights.IMAGENET1K_V1.url).name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("deeptune.probing.ranking.cache_folder", lambda: tmp_path / "cache")


async def backbone_step(pilot, path):
    screen = await read(pilot, path)
    await pilot.press("alt+2")
    await shows(pilot, "weights")
    return screen


def test_a_probe_is_started_followed_and_its_scores_are_shown(app, pictures_parquet, only_resnet18):
    async def steps(pilot):
        await backbone_step(pilot, pictures_parquet)
        assert "probe" not in picture(app)
        await pilot.press("f5")
        await shows(pilot, "5 minutes")
        await pilot.press("enter")
        await shows(pilot, "(f5 cancels)")
        await shows(pilot, "likely to pay", seconds=LOADING)
        await until(pilot, lambda: any("resnet18 " in line and "." in line.split("✓")[0]
                                       for line in picture(app).splitlines() if "✓ here" in line))  # fmt: skip

    drive(app, steps, size=(160, 45))


def test_a_probe_is_cancelled_after_a_question(app, pictures_parquet, only_resnet18):
    async def steps(pilot):
        screen = await backbone_step(pilot, pictures_parquet)
        await pilot.press("f5")
        await shows(pilot, "5 minutes")
        await pilot.press("enter")
        await shows(pilot, "(f5 cancels)")
        await pilot.press("f5")
        await shows(pilot, "Cancel the probe?")
        await pilot.press("right", "enter")
        await until(pilot, lambda: screen.query_one(Probing)._application is None, seconds=LOADING)
        assert not isinstance(app.screen, AskScreen)

    drive(app, steps)


def test_without_data_there_is_nothing_to_rank_on(app, monkeypatch):
    said = []
    monkeypatch.setattr(app, "tell", lambda text, severity: said.append(text))

    async def steps(pilot):
        await open_wizard(pilot)
        await pilot.press("f5")
        await until(pilot, lambda: said)
        assert said[0].startswith("choose the data first")
        assert not isinstance(app.screen, AskScreen)

    drive(app, steps)


def test_why_a_probe_failed_is_said(app, pictures_parquet, tmp_path, only_resnet18):
    copy = tmp_path / "gone.parquet"
    copy.write_bytes(pictures_parquet.read_bytes())

    async def steps(pilot):
        await backbone_step(pilot, copy)
        copy.unlink()
        await pilot.press("f5")
        await shows(pilot, "5 minutes")
        await pilot.press("enter")
        await shows(pilot, "The probe failed", seconds=LOADING)
        await shows(pilot, "gone.parquet")

    drive(app, steps, size=(100, 34))


def test_what_is_no_ranking_says_nothing():
    assert advice_in("") == advice_in("[]") == advice_in('{"backbones": 3}') == ""
