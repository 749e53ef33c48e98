"""How the steps of the wizard look. After a change that is meant: pytest --snapshot-update."""

from __future__ import annotations

import pytest
from driving import NOW, until

from deeptune.show.devices import Device
from tui.app import DeepTuneApp
from tui.draft import Draft
from tui.options import Options
from tui.screens import wizard
from tui.screens.wizard import WizardScreen

PICTURES = {"data.path": "sample:openclipart7"}
PROBLEMS = {
    "data.path": "sample:movie_snippets",
    "data.label": "score",
    "train.epochs": "many",
    "tuning.method": "lora",
}


@pytest.fixture(autouse=True)
def _a_machine_of_its_own(tmp_path, monkeypatch) -> None:
    """No weights but those of the package, and a GPU."""
    for name in ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    gpu = Device("cuda:0", "NVIDIA RTX 4090", 23_400_000_000, 25_400_000_000)
    monkeypatch.setattr(wizard, "devices", lambda: [gpu, Device("cpu", "16 cores", 48 * 10**9, 64 * 10**9)])


def app(**options) -> DeepTuneApp:
    return DeepTuneApp(Options(**options), clock=lambda: NOW)


def at(step: str, given: dict[str, str] = PICTURES):
    """Brings the wizard to a step, when all that there is to know is known."""

    async def before(pilot) -> None:
        screen = WizardScreen(Draft(dict(given)))
        pilot.app.push_screen(screen)
        await until(pilot, lambda: screen.reader.data.survey or screen.reader.data.problem)
        await until(pilot, lambda: screen.reader.samples)
        await screen.action_go(step)
        await until(pilot, lambda: not any(worker.is_running for worker in pilot.app.workers))
        await pilot.pause()

    return before


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 34), (160, 45)], ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("step", ["Data", "Backbone", "Review"])
def test_steps(snap_compare, step, size):
    assert snap_compare(app(), terminal_size=size, run_before=at(step))


@pytest.mark.parametrize("step", ["Head", "Tuning", "Training"])
def test_other_steps(snap_compare, step):
    given = {**PICTURES, "head.layers": "2", "tuning.method": "lora"}
    assert snap_compare(app(), terminal_size=(80, 24), run_before=at(step, given))


def test_problems(snap_compare):
    assert snap_compare(app(), terminal_size=(80, 24), run_before=at("Review", PROBLEMS))


def test_numbers(snap_compare):
    given = {"data.path": "sample:digits_rotation"}
    assert snap_compare(app(), terminal_size=(80, 24), run_before=at("Data", given))


@pytest.mark.parametrize("look", ["light", "ascii"])
def test_other_looks(snap_compare, look):
    options = {"light": {"theme": "deeptune-light"}, "ascii": {"ascii": True}}[look]
    assert snap_compare(app(**options), terminal_size=(80, 24), run_before=at("Training"))
