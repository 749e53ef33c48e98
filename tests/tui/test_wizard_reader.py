"""What the wizard reads of data files, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from importlib import resources

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from driving import PATIENCE, drive, picture, shows, until
from wizard_driving import open_wizard, read, type_in

from deeptune.errors import DataError
from tui.file_inspector import Dropped, Inspector
from tui.widgets.wizard.choice import Choice


def test_a_newer_question_ends_the_one_that_is_being_answered(monkeypatch):
    """Without waiting for it: here for a file that never ends."""
    monkeypatch.setattr("tui.file_inspector.Inspector._start", sleeping(Inspector._start))
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
    """A key waits for a small part of the seconds that half a gigabyte takes.

    The longest gap of a ticker counts, as a share of its reading, in the best of three: a busy machine slows both down.
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
        began = before = time.monotonic()
        longest = 0.0
        while not over.is_set():
            await asyncio.sleep(0.01)
            now = time.monotonic()
            longest, before = max(longest, now - before), now
        gaps.append(longest / (before - began))

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
    assert min(gaps) < 0.1, gaps


def test_f4_audits_the_samples_in_the_step_data(app, tmp_path):
    """A duplicate of the sample data is planted; typing goes on meanwhile."""
    table = pq.read_table(resources.files("deeptune") / "samples" / "openclipart7.parquet").slice(0, 60)
    table = pa.concat_tables([table, table.slice(3, 1)])
    pq.write_table(table, tmp_path / "twice.parquet")

    async def steps(pilot):
        screen = await read(pilot, tmp_path / "twice.parquet")
        await shows(pilot, "f4 audits the samples")
        await pilot.press("f4")
        assert screen.reader.data.auditing
        await shows(pilot, "audit: 2 warnings")

    drive(app, steps, size=(140, 80))


def test_another_file_drops_the_audit(app, tmp_path):
    async def steps(pilot):
        screen = await read(pilot, "sample:openclipart7")
        await pilot.press("f4")
        screen.reader.read(screen.draft, again=True)
        assert screen.reader.data.audit is None
        assert not screen.reader.data.auditing

    drive(app, steps)
