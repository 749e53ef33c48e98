"""What the wizard says about weights and models."""

from __future__ import annotations

import pytest
from driving import drive, picture, shows, until
from wizard_driving import open_wizard

from deeptune.probing.ranking import HeadScore, RankedBackbone, Ranking, store_ranking
from deeptune.spec.toml import validate
from tui.draft import Draft
from tui.screens.wizard import WizardScreen
from tui.widgets.wizard.facts import Data, work_out
from tui.widgets.wizard.summary import facts_text, training_content


@pytest.fixture
def no_weights(tmp_path, monkeypatch) -> None:
    for name in ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "offline", "said"),
    [
        ("bert-base-uncased", "", "the run begins with fetching about 436 MB"),
        ("hf:someone/tiny", "", "the run begins with fetching"),
        ("hf:someone/tiny", "1", "and HF_HUB_OFFLINE forbids"),
    ],
)
def test_the_review_says_which_weights_are_not_here(app, no_weights, monkeypatch, name, offline, said):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)

    async def steps(pilot):
        given = {"data.path": "sample:movie_snippets", "backbone.name": name}
        pilot.app.push_screen(screen := WizardScreen(Draft(given)))
        await until(pilot, lambda: screen.reader.data.survey)
        await screen.action_go("Review")
        await shows(pilot, "are not on this")
        assert said in " ".join(str(screen.query_one("#verdict").render()).split())
        assert "✓ ready" not in picture(app)

    drive(app, steps, size=(160, 45))


def test_weights_that_are_here_come_first_and_their_column_is_whole(app, no_weights, tmp_path):
    file = tmp_path / "cache" / "hub" / "checkpoints" / "vit_b_32-d86f8d99.pth"
    file.parent.mkdir(parents=True)
    file.touch()

    async def steps(pilot):
        screen = await open_wizard(pilot)
        await pilot.press("f3")
        await until(pilot, lambda: screen._fetches)
        await shows(pilot, "MB to get")
        lines = picture(app).splitlines()
        top = next(number for number, line in enumerate(lines) if "params" in line)
        here = [line.split()[0] for line in lines[top + 1 :] if "✓ here" in line]
        assert "vit_b_32" in here
        assert all("✓ here" in line for line in lines[top + 1 : top + 1 + len(here)])

    drive(app, steps)


def test_a_model_in_a_folder_has_its_steps_told_in_numbers_and_its_name_in_short():
    rows = {"train": 1400, "val": 200, "test": 400}
    survey = {"modality": "text", "classes": [["a", 700, 100, 200], ["b", 700, 100, 200]], "rows": rows,
              "task": "classification", "outputs": 2, "input": "text", "lengths": [40, 90, 200]}  # fmt: skip
    draft = Draft({"data.path": "x.parquet", "backbone.name": f"hf:/scratch/{'a-long-way/' * 8}minilm"})
    facts = work_out(draft, Data(survey=survey), [])
    assert "100 epochs, batches of 64, fewer" in training_content(facts).plain
    assert facts_text(facts, 78) == "1,400 rows · 2 classes · hf:minilm · ≤ 2,200 steps"


def test_the_table_shows_the_scores_of_a_probe_of_the_same_data(app, no_weights, monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "probed"))
    spec = validate({"data": {"path": "sample:openclipart7"}, "backbone": {"name": "?"}})
    scored = RankedBackbone("alexnet_is_none", "pretrained", reason="no such network")
    ranked = [RankedBackbone("resnet18", "pretrained", linear=HeadScore(0.7314, None, 1.0)), scored]
    found = Ranking("", "classification", "accuracy", 448, 112, 448, 5, 300.0, 1.0, "complete", 0.25, ranked)

    async def steps(pilot):
        given = {"data.path": "sample:openclipart7", "backbone.name": "resnet"}
        pilot.app.push_screen(screen := WizardScreen(Draft(given)))
        await until(pilot, lambda: screen.reader.data.survey)
        await screen.action_go("Backbone")
        await shows(pilot, "resnet18")
        assert "probe" not in picture(app)
        store_ranking(found, spec, "images")
        screen.refresh_facts()
        await shows(pilot, "0.731")
        assert "probe" in picture(app)

    drive(app, steps)
