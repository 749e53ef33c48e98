"""The shell of the terminal interface: what starts it, what it loads, the list of runs, questions, keys, ASCII."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from driving import drive, picture, shows, until
from textual.widgets import Button, DataTable, Input

from deeptune.errors import SpecError
from deeptune.runs import RunDirectory
from tui.app import DeepTuneApp
from tui.ascii import to_ascii, to_console
from tui.keymap import all_bindings, load_keymap, without_clashes
from tui.options import Options
from tui.screens.ask import AskScreen
from tui.screens.runs import RunsTable
from tui.settings import load_settings, save_setting

HEAVY = ("torch", "transformers", "timm", "pandas", "numpy", "pyarrow", "matplotlib", "PIL", "sklearn", "scipy")


def test_nothing_heavy_is_imported_for_the_first_picture(tmp_path):
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nimport deeptune.cli, tui.main\n"
        "from tui.app import DeepTuneApp\nfrom tui.options import Options\n"
        "async def go():\n"
        f"    async with DeepTuneApp(Options(root=Path({str(tmp_path)!r}))).run_test() as pilot:\n"
        "        await pilot.pause(0.2)\n"
        "asyncio.run(go())\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_opening_a_run_needs_is_imported_while_the_list_is_there(finished_run):
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nimport tui.main\n"
        "from tui.app import DeepTuneApp\nfrom tui.options import Options\n"
        "async def go():\n"
        f"    app = DeepTuneApp(Options(root=Path({str(finished_run.path.parent)!r})))\n"
        "    async with app.run_test() as pilot:\n"
        "        for _ in range(200):\n"
        "            await pilot.pause(0.05)\n"
        "            if 'tui.screens.monitor' in sys.modules:\n"
        "                break\n"
        "        print(not app.screen._soon and 'tui.screens.monitor' in sys.modules)\n"
        "asyncio.run(go())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_runs_of_a_folder_are_listed_filtered_and_sorted(finished_run):
    app = DeepTuneApp(Options(root=finished_run.path.parent))

    async def steps(pilot):
        table = app.screen.query_one(DataTable)
        assert table.row_count == 1
        assert "✓" in picture(app)
        assert "pictures-2026" in picture(app)
        await pilot.press("slash", *"nothing-like-it")
        assert "No run is 'nothing-like-it'" in picture(app)
        await pilot.press("escape")
        assert app.screen.query_one(Input).value == ""
        assert table.row_count == 1
        await pilot.press("o")
        assert "by name" in picture(app)

    drive(app, steps)


def test_an_empty_folder_says_what_to_do(tmp_path):
    app = DeepTuneApp(Options(root=tmp_path / "none"))

    async def steps(pilot):
        assert "There are no runs in" in picture(app)
        assert "deeptune run quickstart" in picture(app)

    drive(app, steps)


def test_deleting_asks_and_then_removes_the_whole_folder(finished_run):
    app = DeepTuneApp(Options(root=finished_run.path.parent))

    async def steps(pilot):
        await pilot.press("d")
        await shows(pilot, "Delete pictures-")
        await until(pilot, lambda: isinstance(app.focused, Button))
        await pilot.press("enter")  # the first choice keeps it
        await until(pilot, lambda: not isinstance(app.screen, AskScreen))
        assert finished_run.path.is_dir()
        await pilot.press("d")
        await shows(pilot, "Delete pictures-")
        await until(pilot, lambda: isinstance(app.focused, Button))
        await pilot.press("right", "enter")
        await shows(pilot, "There are no runs")
        assert not list(finished_run.path.parent.iterdir())

    drive(app, steps)


def test_a_session_that_may_only_look_changes_nothing(finished_run):
    app = DeepTuneApp(Options(root=finished_run.path.parent, read_only=True))

    async def steps(pilot):
        assert "read-only" in picture(app)
        for offered in ("Stop", "Delete", "Resume", "New run", "New run from"):
            assert offered not in picture(app)
        await pilot.press("d", "n", "r", "w")
        await pilot.pause()
        assert len(app.screen_stack) == 2
        assert finished_run.path.is_dir()

    drive(app, steps)


def test_help_lists_the_keys_that_work_here_and_jump_goes_where_its_letter_says(finished_run):
    app = DeepTuneApp(Options(root=finished_run.path.parent))

    async def steps(pilot):
        await pilot.press("f1")
        await pilot.pause()
        for words in ("runs.compare", "Stop at the next step", "app.jump"):
            assert words in picture(app), words
        await pilot.press("escape")
        await pilot.press("slash", "ctrl+o")
        await pilot.pause()
        await pilot.press("s")
        assert isinstance(app.focused, DataTable)

    drive(app, steps, size=(100, 40))


def test_the_keys_at_the_foot_are_whole_at_any_width(finished_run):
    app = DeepTuneApp(Options(root=finished_run.path.parent))
    whole = [
        "⏎ Open", "esc Leave", "n New run", "d Delete", "/ Filter", "space Mark", "t Notes", "p Pin",
        "w New run from this spec", "e Embeddings", "o Sort", "f1 Help", "^o Jump",
    ]  # fmt: skip
    short = ["⏎ Open", "n New", "d Del", "/ Find", "space Mark", "t Notes", "p Pin", "w Again", "e Embed", "f1 Help"]
    few = [key for key in short if key not in ("p Pin", "e Embed")]

    async def steps(pilot):
        for width in (160, 119, 100, 80, 60, 40, 120):
            await pilot.resize_terminal(width, 24)
            await until(pilot, lambda: app.screen.size.width == width)  # noqa: B023
            await until(pilot, lambda: "f1 Help" in picture(app).splitlines()[-1])
            foot = picture(app).splitlines()[-1]
            found = {key for key in (*whole, *short) if f" {key} " in f" {foot} "}
            shown = {key for key in found if not any(other.startswith(f"{key} ") for other in found)}
            assert sorted(foot.split()) == sorted(" ".join(shown).split())
            assert "f1 Help" in shown
            assert set(few) <= shown or width < 60 or width == 160
            assert {*short, "esc Leave"} - {"p Pin"} <= shown or width < 80 or width == 160
            assert set(short) <= shown or width < 100 or width == 160
            assert set(whole) <= shown or width < 160

    drive(app, steps)


def test_the_foot_offers_what_can_be_done_with_the_run_under_the_cursor(finished_run):
    for name, word in (("failed", "failed"), ("other", "done")):
        copied = shutil.copytree(finished_run.path, finished_run.path.parent / name)
        result = json.loads((copied / "result.json").read_text()) | {"state": word}
        (copied / "result.json").write_text(json.dumps(result))
    app = DeepTuneApp(Options(root=finished_run.path.parent))

    def offers(*keys: str) -> bool:
        foot = picture(app).splitlines()[-1]
        return [key for key in ("s Stop", "r Resume", "d Del", "c Compare", "e Embed") if key in foot] == list(keys)

    async def steps(pilot):
        await pilot.press("o", "o", "home")  # by state
        await until(pilot, lambda: offers("d Del", "e Embed"))
        await pilot.press("end")
        await until(pilot, lambda: offers("r Resume", "d Del"))
        await pilot.press("s")
        await until(pilot, lambda: "nothing to stop: the run is failed" in {n.message for n in app._notifications})
        await pilot.press("home", "space", "space")
        await until(pilot, lambda: offers("r Resume", "d Del", "c Compare"))

    drive(app, steps)


def test_keys_of_the_users_own_take_effect_and_mistakes_are_told(tmp_path, finished_run):
    file = tmp_path / "keys.toml"
    file.write_text('"runs.sort" = "f5"\n')
    app = DeepTuneApp(Options(root=finished_run.path.parent), keymap=load_keymap(file))

    async def steps(pilot):
        await pilot.press("o")
        assert "by age" in picture(app)
        await pilot.press("f5")
        assert "by name" in picture(app)

    drive(app, steps)
    file.write_text('"runs.sotr" = "x"\n"runs.stop" = 3\n')
    with pytest.raises(SpecError) as told:
        load_keymap(file)
    assert "did you mean 'runs.sort'" in str(told.value).lower()
    assert "runs.stop: expected a key" in str(told.value)


@pytest.mark.parametrize(
    ("own", "resolved"),
    [
        ({"runs.stop": "r"}, {"runs.resume": "s"}),  # they change places
        ({"runs.filter": "s"}, {"runs.stop": "slash"}),
        ({"runs.stop": "f1"}, {"app.help": "f5"}),  # a key that works everywhere is no letter
        ({"runs.leave": "s,escape"}, {"runs.stop": "q"}),
        ({"runs.stop": "x", "runs.resume": "x"}, {"runs.resume": "r"}),
        ({"runs.stop": "q"}, {"runs.leave": "escape"}),  # which it had besides
        ({"runs.stop": "5"}, {}),
    ],
    ids=str,
)
def test_a_key_of_ones_own_takes_no_other_binding_away(own, resolved):
    keymap, told = without_clashes(own)
    if own.get("runs.resume") == "x":
        assert keymap["runs.stop"] == "x"
        assert keymap["runs.resume"] not in ("x", "")
    else:
        assert keymap == {**own, **resolved}
    assert len(told) == len(resolved)
    for name in resolved:
        assert name in told[-1]


def test_a_clash_is_told_and_both_keys_work(finished_run):
    app = DeepTuneApp(Options(root=finished_run.path.parent), keymap={"runs.sort": "d"})

    async def steps(pilot):
        assert [note.message.partition(" (")[0] for note in app._notifications] == ["d is now runs.sort"]
        await pilot.press("d")
        await shows(pilot, "by name")
        await pilot.press("o")
        await shows(pilot, "Delete pictures-")

    drive(app, steps, size=(120, 34))


def test_the_theme_that_was_chosen_is_there_at_the_next_start(tmp_path):
    app = DeepTuneApp(Options(root=tmp_path))

    async def steps(pilot):
        app.theme = "deeptune-light"
        await pilot.pause()

    drive(app, steps)
    assert load_settings() == {"theme": "deeptune-light"}
    save_setting("bell", False)
    assert load_settings() == {"theme": "deeptune-light", "bell": False}


def test_every_binding_has_an_id_of_its_own_and_a_tooltip():
    found = list(all_bindings())
    assert len(found) > 15
    for _, binding in found:
        assert binding.tooltip, binding.id


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (160, 45)])
def test_ascii_draws_nothing_but_ascii(finished_run, size):
    app = DeepTuneApp(Options(root=finished_run.path.parent, ascii=True))

    async def steps(pilot):
        assert app.export_screenshot()
        for key in ("f1", "escape", "d"):
            await pilot.press(key)
            await pilot.pause()
            assert picture(app).isascii()

    drive(app, steps, size=size)


def test_a_character_becomes_as_many_columns_of_ascii():
    assert to_ascii("│ ✓ ─ é Ł 漢 … █") == "| + - e ? ?? . #"


def test_the_linux_console_gets_what_is_nearest_of_its_own_characters():
    assert to_console("╭━┃ ● ✓ ▂▅█ é … ⣿") == "┌─│ ■ √ ▄▄█ é . ?"


def test_text_of_runs_is_never_markup_nor_an_escape(finished_run):
    odd = finished_run.path.with_name("[red]x[-red]\x1b[31m")
    finished_run.path.rename(odd)
    app = DeepTuneApp(Options(root=odd.parent))

    async def steps(pilot):
        assert "[red]x[-red]\\x1b[31m" in picture(app)
        await pilot.press("d")
        await shows(pilot, "Delete [red]x[-red]\\x1b[31m?")

    drive(app, steps, size=(120, 34))


def test_what_is_no_run_and_no_spec_is_told(tmp_path, monkeypatch, capsys):
    from deeptune.cli.app import run_command
    from tui.main import app

    monkeypatch.setattr(sys, "argv", ["deeptune-tui", "quickstrat", "--output", str(tmp_path)])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run_command(app, "deeptune-tui") == 2
    told = capsys.readouterr().err
    assert "quickstart" in told
    assert Path("quickstrat").name in told
    assert RunDirectory(tmp_path).path.exists()


def test_the_version_needs_no_terminal(monkeypatch, capsys):
    from deeptune import __version__
    from deeptune.cli.app import run_command
    from tui.main import app

    monkeypatch.setattr(sys, "argv", ["deeptune-tui", "--version"])
    assert run_command(app, "deeptune-tui") == 0
    assert capsys.readouterr().out == f"deeptune {__version__}\n"


def test_the_reference_of_keys_is_that_of_the_bindings():
    """`python -m tui.reference docs/tui-keys.md` makes it again."""
    from tui.reference import reference

    written = Path(__file__).parents[2] / "docs" / "tui-keys.md"
    assert written.read_text(encoding="utf-8") == reference()


def test_home_and_end_go_to_the_first_and_the_last_run(finished_run):
    for number in range(3):
        shutil.copytree(finished_run.path, finished_run.path.with_name(f"copy-20260921-10150{number}-abc12{number}"))
    app = DeepTuneApp(Options(root=finished_run.path.parent))

    async def steps(pilot):
        table = app.screen.query_one(RunsTable)
        await until(pilot, lambda: table.row_count == 4)
        await pilot.press("end")
        await until(pilot, lambda: table.cursor_row == 3)
        await pilot.press("home")
        await until(pilot, lambda: table.cursor_row == 0)

    drive(app, steps)


def test_a_spec_that_is_gone_or_damaged_opens_no_wizard_and_says_why(finished_run):
    app = DeepTuneApp(Options(root=finished_run.path.parent))

    async def steps(pilot):
        await shows(pilot, "done")
        finished_run.spec.write_text("not = [toml", encoding="utf-8")
        await pilot.press("w")
        await shows(pilot, "spec error")
        await pilot.press("escape")
        assert "Runs" in picture(app)

    drive(app, steps)
