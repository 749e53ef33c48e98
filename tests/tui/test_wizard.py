"""The wizard, by keys alone: from a path to a run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import PATIENCE, drive, picture, shows, until
from pictures import png
from pydantic import Field
from textual import events
from textual.widgets import Button, Input

from deeptune.errors import DataError
from deeptune.runs import RunDirectory, run_state
from deeptune.spec import RunSpec, load_spec
from deeptune.spec.fields import spec_fields
from deeptune.spec.model import HeadSpec
from deeptune.spec.toml import validate
from tui import typeahead
from tui.app import DeepTuneApp
from tui.draft import Draft, draft_file
from tui.inspector import Dropped, Inspector
from tui.options import Options
from tui.screens.wizard import WizardScreen
from tui.widgets.wizard.choice import Choice
from tui.widgets.wizard.facts import Data, work_out
from tui.widgets.wizard.paths import cleaned, completions
from tui.widgets.wizard.rail import STEPS
from tui.widgets.wizard.review import Problems
from tui.widgets.wizard.summary import facts_text, training_content

NAMED = {
    " ": "space", "/": "slash", ".": "full_stop", "_": "underscore", ":": "colon", "-": "minus",
    "[": "left_square_bracket", "]": "right_square_bracket",
}  # fmt: skip


async def type_in(pilot, text: str) -> None:
    await pilot.press(*(NAMED.get(character, character) for character in text))


async def paste(pilot, text: str) -> None:
    pilot.app.screen.focused.post_message(events.Paste(text))
    await pilot.pause()


async def open_wizard(pilot) -> WizardScreen:
    pilot.app.open_wizard()
    await until(pilot, lambda: isinstance(pilot.app.screen, WizardScreen) and pilot.app.screen.focused is not None)
    return pilot.app.screen


async def read(pilot, path: object) -> WizardScreen:
    """The wizard with the data of `path`, looked at."""
    screen = await open_wizard(pilot)
    await paste(pilot, str(path))
    await pilot.press("enter")
    await until(pilot, lambda: screen.reader.data.survey or screen.reader.data.problem)
    await pilot.pause()
    return screen


@pytest.fixture
def opened(monkeypatch) -> list[RunDirectory]:
    """The runs whose monitor was opened."""
    found: list[RunDirectory] = []
    monkeypatch.setattr(DeepTuneApp, "open_monitor", lambda self, run: found.append(run))
    return found


@pytest.fixture
def app(tmp_path) -> DeepTuneApp:
    return DeepTuneApp(Options(root=tmp_path / "runs"))


def test_keys_alone_make_and_launch_a_run(app, opened, pictures_parquet, monkeypatch):
    """At 80x24, through all steps: a random ResNet-18 at 32 px, which a runner of its own then trains to its end."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    async def steps(pilot):
        screen = await open_wizard(pilot)
        await type_in(pilot, str(pictures_parquet))
        await shows(pilot, "[b]green[/b]")
        await pilot.press("ctrl+n")
        await shows(pilot, "embedding")
        await type_in(pilot, "resnet1")
        await pilot.press("enter")  # the first row that has the words, and on to the weights
        assert screen.draft.text("backbone.name") == "resnet18"
        await type_in(pilot, "random")
        await pilot.press("down")
        await type_in(pilot, "32")
        await pilot.press("ctrl+n", "right", "down")
        await shows(pilot, "embedding size")
        await type_in(pilot, "16")
        await shows(pilot, "8,259")  # (512 + 1) × 16 + (16 + 1) × 3
        await pilot.press("ctrl+n", "ctrl+n")
        await type_in(pilot, "2")
        await pilot.press("down")
        await type_in(pilot, "8")
        await shows(pilot, "≤ 8 ")  # of 33 rows: the last of five batches would be of one row
        await pilot.press("ctrl+n")
        await shows(pilot, "✓ ready")
        await pilot.press("enter")
        await until(pilot, lambda: opened)
        assert not isinstance(app.screen, WizardScreen)

    drive(app, steps)
    (run,) = opened
    deadline = time.monotonic() + 4 * PATIENCE
    while not run_state(run).over:
        assert time.monotonic() < deadline, run.console.read_text()
        time.sleep(0.2)
    assert run_state(run).word == "done", run.console.read_text()
    spec = load_spec(run.spec)
    assert (spec.backbone.name, spec.backbone.weights, spec.backbone.image_size) == ("resnet18", "random", 32)
    assert (spec.head.layers, spec.head.embedding_size, spec.train.epochs, spec.train.batch_size) == (2, 16, 2, 8)
    told = json.loads(run.run.read_text())
    assert told["argv"][:4] == ["deeptune", "run", "--data", str(pictures_parquet)]
    assert not draft_file().exists()


def test_a_pasted_path_becomes_a_run_in_few_keys(app, opened, pictures_parquet, monkeypatch):
    from deeptune.runs import launch

    monkeypatch.setattr(launch, "start_runner", lambda run, **options: None)

    async def steps(pilot):
        await open_wizard(pilot)
        await paste(pilot, f"'{pictures_parquet}'\n")
        keys = ["enter", "ctrl+r"]
        await pilot.press(*keys)
        await shows(pilot, "✓ ready")
        keys.append("enter")
        await pilot.press("enter")
        await until(pilot, lambda: opened)
        assert len(keys) <= 12

    drive(app, steps)
    spec = load_spec(opened[0].spec)
    assert spec.data.path == str(pictures_parquet)
    assert spec.backbone.name == "efficientnet_lite0"  # whose weights are on this machine


def test_a_launch_that_fails_says_why_and_keeps_the_draft(app, opened, pictures_parquet, monkeypatch):
    from deeptune.errors import CheckpointError
    from deeptune.runs import launch

    def refuse(run, **options):
        raise CheckpointError("the runner ended at once", hint="Look into console.log.")

    monkeypatch.setattr(launch, "start_runner", refuse)

    async def steps(pilot):
        screen = await read(pilot, pictures_parquet)
        await pilot.press("ctrl+r")
        await shows(pilot, "✓ ready")
        await pilot.press("ctrl+r")
        await shows(pilot, "the runner ended at once")
        await shows(pilot, "Look into console.log.")
        await pilot.press("enter")
        assert app.screen is screen
        screen.save_now()
        assert Draft.load() is not None

    drive(app, steps)
    assert not opened


def test_a_newer_question_ends_the_one_that_is_being_answered(monkeypatch):
    """Without waiting for it: here for a file that never ends."""
    monkeypatch.setattr("tui.inspector.Inspector._start", sleeping(Inspector._start))
    inspector = Inspector()
    ended = []

    def ask() -> None:
        try:
            inspector.ask(ask="overview", paths="sample:openclipart7")
        except Dropped:
            ended.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    while not inspector._waiting:
        time.sleep(0.01)
    inspector.drop()
    thread.join(PATIENCE)
    assert ended == [True]
    assert inspector.ask(ask="overview", paths="sample:openclipart7")["rows"] == 560
    inspector.close()


def sleeping(start):
    """The first process that is started never answers."""
    calls = []

    def first_sleeps(self):
        calls.append(self)
        if len(calls) > 1:
            return start(self)
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return first_sleeps


def test_a_process_that_dies_is_told_and_replaced():
    inspector = Inspector()
    assert inspector.ask(ask="overview", paths="sample:openclipart7")["rows"] == 560
    inspector._process.kill()
    with pytest.raises(DataError, match="the process that reads the data is gone"):
        inspector.ask(ask="overview", paths="sample:openclipart7")
    assert inspector.ask(ask="overview", paths="sample:openclipart7")["rows"] == 560
    inspector.close()


def test_read_only_launches_nothing(tmp_path, pictures_parquet):
    app = DeepTuneApp(Options(root=tmp_path / "runs", read_only=True))

    async def steps(pilot):
        app.open_wizard()
        await pilot.pause()
        assert not isinstance(app.screen, WizardScreen)
        app.push_screen(WizardScreen(Draft({"data.path": str(pictures_parquet), "backbone.name": "resnet18"})))
        await shows(pilot, "path")
        await pilot.press("ctrl+r")
        await shows(pilot, "Without network")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: any("--read-only" in told.message for told in app._notifications))
        assert not (tmp_path / "runs").exists()

    drive(app, steps)


def test_problems_are_marked_and_one_key_away(app, tmp_path):
    file = tmp_path / "d.parquet"
    pq.write_table(pa.table({"text": ["a text"] * 24, "labels": ["a", "b", None] * 8}), file)

    async def steps(pilot):
        screen = await read(pilot, file)
        assert "8 of 24 labels in column 'labels' are missing" in picture(app)
        assert 'set data.on_bad_sample = "skip"' in " ".join(picture(app).split())
        assert "! 1 Data" in picture(app)
        await pilot.press("alt+5")
        await type_in(pilot, "many")
        await pilot.press("ctrl+r")
        await shows(pilot, "2 problems")
        assert app.screen.query_one("#launch", Button).disabled
        assert isinstance(screen.focused, Problems)
        assert "! 5 Training" in picture(app)
        await pilot.press("enter")
        await until(pilot, lambda: screen.step == "Training")
        await until(pilot, lambda: isinstance(screen.focused, Input) and screen.focused.value == "many")
        await pilot.press("ctrl+u", "6")  # the digit is typed, as the focus is in a field
        await pilot.press("ctrl+r")
        await shows(pilot, "1 problem:")
        await pilot.press("enter")
        await until(pilot, lambda: screen.step == "Data")
        screen.draft.set("data.on_bad_sample", "skip")
        screen.reader.read(screen.draft)
        await until(pilot, lambda: "✓ ready" not in picture(app) and not screen.facts.problems)

    drive(app, steps)


def test_a_backbone_of_the_other_modality_is_refused_at_its_field(app):
    async def steps(pilot):
        screen = await read(pilot, "sample:movie_snippets")
        screen.draft.set("backbone.name", "resnet18")
        await pilot.press("ctrl+n")
        await shows(pilot, "resnet18 is a backbone for image, but the data is text")
        await pilot.press("ctrl+u")
        await type_in(pilot, "gpt3")
        await shows(pilot, "there is no backbone 'gpt3'")

    drive(app, steps)


def test_guesses_show_where_the_defaults_do_not_fit(app, tmp_path):
    file = tmp_path / "d.parquet"
    pq.write_table(pa.table({"scan": [png()] * 24, "grade": [1, 2, 3] * 8, "patient_id": list(range(12)) * 2}), file)

    async def steps(pilot):
        screen = await read(pilot, file)
        assert (screen.draft.value("data.input"), screen.draft.value("data.label")) == ("scan", "grade")
        assert "patient_id may be one" in picture(app)
        assert screen.facts.problems == []
        assert screen.draft.command()[2:6] == ["--data", str(file), "--set", "data.input=scan"]

    drive(app, steps)


def test_the_draft_outlives_a_hang_up(app, tmp_path, pictures_parquet):
    async def leave(pilot):
        await open_wizard(pilot)
        await paste(pilot, str(pictures_parquet))
        await pilot.press("5")  # typed into the path
        await pilot.press("backspace", "ctrl+n", "ctrl+n", "right", "down")
        await type_in(pilot, "12")
        app.save_now()  # what the handler of SIGHUP calls

    drive(app, leave)
    again = DeepTuneApp(app.options)

    async def restore(pilot):
        again.open_wizard()
        await shows(pilot, "There is a draft")
        await pilot.press("enter")
        await shows(pilot, "embedding size")
        assert again.screen.step == "Head"
        assert again.screen.draft.value("head.embedding_size") == 12
        assert again.screen.draft.value("data.path") == str(pictures_parquet)
        await until(pilot, lambda: again.screen.reader.data.survey)

    drive(again, restore)


def test_the_draft_is_saved_while_it_is_typed_and_can_be_left(app, tmp_path):
    async def steps(pilot):
        await open_wizard(pilot)
        await type_in(pilot, "x.parquet")
        await until(pilot, lambda: (saved := Draft.load()) is not None and saved.given["data.path"] == "x.parquet")
        app.pop_screen()
        app.open_wizard()
        await shows(pilot, "There is a draft")
        await pilot.press("right", "enter")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen) and app.screen.focused is not None)
        assert app.screen.draft.given == {}

    drive(app, steps)


def test_a_run_opens_as_a_starting_point(app, finished_run):
    async def steps(pilot):
        app.open_wizard(finished_run.spec)
        await shows(pilot, "pictures.parquet")
        await until(pilot, lambda: app.screen.reader.data.survey)
        asked = json.loads(finished_run.run.read_text())["asked"]  # with every "auto" as it was
        assert app.screen.draft.spec() == validate(asked)

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
        for field in spec_fields():
            await screen.go_to_field(field.key)
            default = "needed" if field.required else f"default {field.show(field.default) or 'unset'}"
            await shows(pilot, f"{field.key}  {default}")

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
        relevant = set(screen.draft.fields) - {"backbone.max_length", "head.embedding_size", "head.activation"}
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


def test_what_is_found_out_while_somebody_types_moves_nothing(app):
    """The screen is brought in line with the draft between a key and the moment that the draft hears of it."""

    async def steps(pilot):
        screen = await open_wizard(pilot)
        entry, task = screen.focused, screen.query_one(Choice)
        words = [task._words[at % len(task._words)] for at in range(4)]
        for at, letter in enumerate("scans", start=1):
            entry.insert_text_at_cursor(letter)
            screen.refresh_facts()
            await until(pilot, lambda at=at: screen.draft.text("data.path") == "scans"[:at])
        entry.insert_text_at_cursor("/")
        screen.refresh_facts()
        entry.insert_text_at_cursor("a")
        await until(pilot, lambda: screen.draft.text("data.path") == "scans/a")
        assert (entry.value, entry.cursor_position) == ("scans/a", 7)
        for word in words[1:]:
            task.action_move(1)
            screen.refresh_facts()
            assert task.text == word
        await until(pilot, lambda: screen.draft.text("task") == words[3])
        # What others change in the draft is shown, and typed on at its end.
        screen.draft.set("data.path", "other")
        screen.refresh_facts()
        assert (entry.value, entry.cursor_position) == ("other", 5)
        screen.draft.set("data.path", "")
        screen.refresh_facts()
        assert entry.value == ""

    drive(app, steps)


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


def test_the_spec_is_saved_where_the_person_says(app, tmp_path, monkeypatch, pictures_parquet):
    monkeypatch.chdir(tmp_path)

    async def steps(pilot):
        screen = await read(pilot, pictures_parquet)
        await pilot.press("ctrl+s")
        await shows(pilot, "Save the spec as")
        await pilot.press("ctrl+u")
        await type_in(pilot, "mine")
        await pilot.press("enter")
        await until(pilot, (tmp_path / "mine.toml").exists)
        assert load_spec(tmp_path / "mine.toml") == screen.draft.spec()
        await pilot.press("ctrl+s", "ctrl+u")
        await type_in(pilot, "mine.toml")
        await pilot.press("enter")
        await shows(pilot, "Replace")

    drive(app, steps)


def test_names_labels_and_texts_are_inert(app, tmp_path):
    nasty = "[red]x[/]\x1b[1m\x9bJ"
    file = tmp_path / "[bold]d.parquet"
    pq.write_table(
        pa.table({"text": [f"{nasty} text"] * 24, nasty: ["u", "v"] * 12, "labels": [nasty, "b"] * 12}), file
    )

    async def steps(pilot):
        await read(pilot, file)
        drawn = picture(app)
        assert drawn.count("[red]x[/]\\x1b[1m\\x9bJ") >= 2
        assert "\x1b" not in drawn
        assert "\x9b" not in drawn
        await pilot.press("ctrl+r")
        await shows(pilot, "not on this")  # nothing is wrong but that the weights have to be fetched
        await pilot.press("1", "down")
        await type_in(pilot, "[b]no")
        await shows(pilot, "there is no column '[b]no'")

    drive(app, steps, size=(120, 45))


def test_nothing_heavy_is_loaded_to_read_data(tmp_path, environment):
    """Parquet is read by a process of its own."""
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nsys.path.insert(0, 'tests/tui')\n"
        "from tui.app import DeepTuneApp\nfrom tui.options import Options\nfrom tui.draft import Draft\n"
        "from tui.screens.wizard import WizardScreen\n"
        "async def go():\n"
        f"    app = DeepTuneApp(Options(root=Path({str(tmp_path)!r})))\n"
        "    async with app.run_test() as pilot:\n"
        "        screen = WizardScreen(Draft({'data.path': 'sample:movie_snippets'}))  # previews of images need PIL\n"
        "        app.push_screen(screen)\n"
        "        while screen.reader.data.survey is None:\n"
        "            await pilot.pause(0.05)\n"
        "        await screen.action_go('Review')\n"
        "        await pilot.pause()\n"
        "        assert not screen.facts.problems\n"
        "asyncio.run(go())\n"
        "heavy = ('torch', 'transformers', 'timm', 'pandas', 'numpy', 'pyarrow', 'matplotlib', 'PIL', 'sklearn')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=False,
        text=True,
        env={**environment, **state},
        timeout=60,
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_the_screen_answers_while_a_large_file_is_read(app, tmp_path):
    """A key waits at most 100 ms while half a gigabyte is read.

    The longest gap of a ticker counts, in the best of three readings, as other processes may hold this one up.
    """
    file = tmp_path / "large.parquet"
    rng = np.random.default_rng(0)
    block = rng.bytes(1_000_000)
    texts = pa.array([block[i : i + 500].hex() for i in range(0, 500_000, 500)])
    schema = pa.schema([("text", pa.string()), ("labels", pa.int64()), ("patient", pa.int64())])
    with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(500):
            labels = pa.array(rng.integers(0, 50, 1000))
            writer.write_table(pa.table([texts, labels, pa.array(rng.integers(0, 400, 1000))], schema=schema))
    assert os.path.getsize(file) > 450_000_000
    gaps: list[float] = []

    async def ticks(over: asyncio.Event) -> None:
        before, longest = time.monotonic(), 0.0
        while not over.is_set():
            await asyncio.sleep(0.01)
            now = time.monotonic()
            longest, before = max(longest, now - before), now
        gaps.append(longest)

    async def steps(pilot):
        screen = await open_wizard(pilot)
        await pilot.pause(0.5)
        for _ in range(3):
            over = asyncio.Event()
            ticker = asyncio.create_task(ticks(over))
            screen.draft.set("data.path", str(file))
            screen.draft.set("data.group", "patient")
            screen.reader.read(screen.draft, again=True)
            await until(pilot, lambda: screen.reader.data.survey)
            over.set()
            await ticker
            assert sum(screen.reader.data.survey["rows"].values()) == 500_000
            if gaps[-1] < 0.1:
                break

    drive(app, steps)
    assert min(gaps) < 0.1


def test_escape_on_the_question_about_a_draft_leaves_it_where_it_is(app):
    Draft({"data.path": "scans.parquet"}).save()

    async def steps(pilot):
        pilot.app.open_wizard()
        await shows(pilot, "There is a draft")
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        assert Draft.load().text("data.path") == "scans.parquet"
        pilot.app.open_wizard()
        await shows(pilot, "There is a draft")
        await pilot.press("right", "enter")
        await until(pilot, lambda: isinstance(app.focused, Input))
        assert app.screen.draft.given == {}

    drive(app, steps)


def test_what_was_typed_and_taken_back_is_no_draft(app):
    async def steps(pilot):
        screen = await open_wizard(pilot)
        await type_in(pilot, "scans")
        screen.save_now()
        assert draft_file().exists()
        await pilot.press("ctrl+u")
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await until(pilot, lambda: not draft_file().exists())

    drive(app, steps)


def test_a_preset_that_was_only_looked_at_is_no_draft(app):
    async def steps(pilot):
        pilot.app.push_screen(screen := WizardScreen(Draft({"data.path": "scans.parquet"})))
        await until(pilot, lambda: screen.ready)
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.pause()
        assert not draft_file().exists()

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
        await shows(pilot, "45 MB to get")  # of resnet18
        lines = picture(app).splitlines()
        top = next(number for number, line in enumerate(lines) if "params" in line)
        here = [line.split()[0] for line in lines[top + 1 :] if "✓ here" in line]
        assert "vit_b_32" in here
        assert all("✓ here" in line for line in lines[top + 1 : top + 1 + len(here)])

    drive(app, steps)


def test_keys_wait_for_a_screen_only_so_long(app, monkeypatch):
    """One that is never ready gets the key that has waited, and those behind it at once."""
    monkeypatch.setattr(typeahead, "PATIENCE", 3)

    async def steps(pilot):
        screen = await open_wizard(pilot)
        await until(pilot, lambda: screen.ready)
        screen.ready = False
        for letter in "scans":
            app.post_message(events.Key(letter, letter))
        await until(pilot, lambda: screen.focused.value == "scans")

    drive(app, steps)


def test_a_model_in_a_folder_has_its_steps_told_in_numbers_and_its_name_in_short():
    rows = {"train": 1400, "val": 200, "test": 400}
    survey = {"modality": "text", "classes": [["a", 700, 100, 200], ["b", 700, 100, 200]], "rows": rows,
              "input": "text", "lengths": [40, 90, 200]}  # fmt: skip
    draft = Draft({"data.path": "x.parquet", "backbone.name": f"hf:/scratch/{'a-long-way/' * 8}minilm"})
    facts = work_out(draft, Data(survey=survey), [])
    assert "100 epochs, batches of 64, fewer" in training_content(facts).plain
    assert facts_text(facts, 78) == "1,400 rows · 2 classes · hf:minilm · ≤ 2,200 steps"
