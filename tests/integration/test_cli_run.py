"""`deeptune run` and what uses its runs, as people and scripts meet them: on a terminal, in a pipe, interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

IMAGES = (
    "--set", "backbone.name=resnet18", "--set", "backbone.weights=random", "--set", "backbone.image_size=32",
    "--set", "train.epochs=2", "--set", "train.device=cpu", "--set", "train.batch_size=32",
)  # fmt: skip
ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9])")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

# What a data set's author might write to make a terminal act: markup, a colour, a window title, a cursor that moves.
NAUGHTY = ["[bold red]x[/]", "\x1b[35;45mloud", "\x1b]0;owned\x07title", "two\nlines[/x]"]
INERT = ["[bold red]x[/]", r"\x1b[35;45mloud", r"\x1b]0;owned\x07title"]


@pytest.fixture
def naughty(tmp_path: Path, tiny_bert: Path) -> list[str]:
    """Arguments of a run whose file, columns and classes all carry markup and escapes."""
    file = tmp_path / "[blink]da\x1b[35;45mta.parquet"
    texts = [f"{word} film" for word in ("good", "bad", "worth", "plot") for _ in range(12)]
    labels = [name for name in NAUGHTY for _ in range(12)]
    pq.write_table(pa.table({"te[b]xt\x1b[7m": texts, "la[/]bel\x1b[7m": labels}), file)
    settings = {
        "data.input": "te[b]xt\x1b[7m", "data.label": "la[/]bel\x1b[7m", "backbone.name": f"hf:{tiny_bert}",
        "train.epochs": 1, "train.device": "cpu",
    }  # fmt: skip
    return ["--data", str(file), *(word for k, v in settings.items() for word in ("--set", f"{k}={json.dumps(v)}"))]


def check_inert(shown: str) -> None:
    assert "\x1b[35;45m" not in shown
    assert "\x1b]0;" not in shown
    assert "\x1b[7m" not in shown
    assert "\x07" not in shown


def test_text_from_data_and_paths_is_inert_in_a_pipe(command, naughty):
    dry = command("run", *naughty, "--dry-run")
    assert dry.code == 0, dry.stderr
    done = command("run", *naughty, "--foreground", "--output", "[red]out")
    assert done.code == 0, done.stderr
    for shown in (dry, done):
        assert "\x1b" not in shown.stdout + shown.stderr
        assert "\x07" not in shown.stdout + shown.stderr
    for text in INERT:
        assert text in dry.stdout
        assert text in done.stdout
    assert "la[/]bel" in dry.stdout
    assert "[red]out/" in done.stdout

    facts = command("run", *naughty, "--dry-run", "--json")
    assert {entry["class"] for entry in json.loads(facts.stdout)["labels"]["classes"]} == set(NAUGHTY)

    (run,) = Path("[red]out").iterdir()
    file = naughty[1]
    scored = command("evaluate", str(run), "--data", file)
    assert scored.code == 0, scored.stderr
    assert INERT[1] in scored.stdout
    written = command("predict", str(run), "--data", file, "--output", "[b]p\x1b[7m.parquet")
    assert written.code == 0, written.stderr
    assert r"[b]p\x1b[7m.parquet" in written.stdout
    assert set(pq.read_table("[b]p\x1b[7m.parquet")["prediction"].to_pylist()) <= set(NAUGHTY)
    wrong = command("run", *naughty, "--set", 'data.label="la[bel\\u001b[7m"', "--foreground", "--output", "out")
    assert wrong.code == 3
    assert r"no column 'la[bel\x1b[7m'" in wrong.stderr.replace("\\\\", "\\")
    gone = command(
        "run", "--data", "\x1b[35;45m[red]no", "--set", "backbone.name=resnet18", "--foreground", "--output", "out"
    )
    assert r"\x1b[35;45m[red]no" in gone.stderr
    for shown in (scored, written, wrong, gone):
        assert "\x1b" not in shown.stdout + shown.stderr


def test_text_from_data_and_paths_is_inert_on_a_terminal(terminal, naughty):
    silent = {"DEEPTUNE_BELL": "0"}  # the bell of our own, for the end of a run, has a test of its own
    code, drawn = terminal("run", *naughty, "--foreground", "--output", "[red]out", columns=160, **silent)
    assert code == 0, drawn
    check_inert(drawn)
    assert INERT[0] in drawn
    assert INERT[1] in drawn
    code, drawn = terminal(
        "run", *naughty, "--set", "data.label=\x1b[35;45m", "--output", "out", **silent
    )  # by a runner of its own
    assert code == 3
    check_inert(drawn)
    assert r"\x1b[35;45m" in drawn


def test_a_dry_run_says_what_would_happen_and_writes_nothing(command, tmp_path):
    arguments = ["run", "quickstart", *IMAGES, "--set", "head.layers=2", "--set", "head.embedding_size=20", "--dry-run"]
    shown = command(*arguments)
    assert shown.code == 0, shown.stderr
    for part in (
        "input 'images', label 'labels'", "train 392, val 56, test 112", "resnet18, random weights", "32 px",
        "512 → 20 → 7",
        "10,407 of 11,186,919 learn", "26 in 2 epochs, effective batch size 32", "0 (animal)", "batch_size = 32",
    ):  # fmt: skip
        assert part in shown.stdout
    assert not Path("runs").exists()
    facts = json.loads(command(*arguments, "--json").stdout)
    assert facts["rows"] == {"train": 392, "val": 56, "test": 112}
    assert facts["head"] == [512, 20, 7]
    assert facts["parameters"] == {"trainable": 512 * 20 + 20 + 20 * 7 + 7, "total": 11_176_512 + 10_407}
    assert facts["steps"] == 26
    assert sum(entry["train"] for entry in facts["labels"]["classes"]) == 392
    # The printed spec gives the very same run again.
    printed = shown.stdout.partition("a spec that gives this very run):\n")[2]
    (tmp_path / "again.toml").write_text(printed)
    again = json.loads(command("run", "again.toml", "--dry-run", "--json").stdout)
    assert {**again, "device": None, "spec": None} == {**facts, "device": None, "spec": None}


def test_a_dry_run_of_texts_and_numbers(command, tiny_bert):
    arguments = ["--set", f"backbone.name=hf:{tiny_bert}", "--set", "data.label=score", "--set", "task=regression"]
    shown = command("run", "--data", "sample:movie_snippets", *arguments, "--dry-run")
    assert shown.code == 0, shown.stderr
    for part in ("regression of texts", "label 'score'", "tokens", "32 → 1", "label: mean "):
        assert part in shown.stdout


def test_json_for_scripts(cli, image_file, tmp_path):
    """One object on stdout and nothing else; progress is on stderr."""
    answer = cli("run", *IMAGES, "--data", str(image_file()), "--json", "--output", "out")
    assert answer.code == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert set(told) == {"run", "state", "test"}
    assert told["state"] == "done"
    assert told["test"]["accuracy"] == json.loads((Path(told["run"]) / "metrics.json").read_text())["test"]["accuracy"]
    assert " training\n" in answer.stderr
    assert "\x1b" not in answer.stdout + answer.stderr


def test_plain_lines_and_the_summary(command, image_file):
    answer = command("run", *IMAGES, "--data", str(image_file()), "--plain", "--foreground", "--set", "embed.splits=[]")
    assert answer.code == 0, answer.stderr
    lines = answer.stdout.splitlines()
    stamped = [line for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]
    for words in ("run ", "reading and checking the data", "computing features", "training", "epoch 2/2", "scoring"):
        assert any(line[9:].startswith(words) for line in stamped), words
    assert "Test metrics" in answer.stdout
    assert "Weakest classes" in answer.stdout
    (run,) = Path("runs").iterdir()
    assert f"report       runs/{run.name}/report.html" in lines
    assert f"  deeptune evaluate runs/{run.name} --data LABELLED.parquet" in lines
    assert not any("embeddings " in line for line in lines)

    # Each way to name the run, for each command that uses one.
    file = str(image_file("new.parquet", labels=["red"] * 24))
    for reference in ("latest", run.name, run.name[:-3], f"runs/{run.name}", str(run.absolute())):
        done = command("predict", reference, "--data", file, "-o", "p.parquet")
        assert done.code == 0, done.stderr
        assert done.stdout == "wrote 24 predictions to p.parquet\n"
    metrics = json.loads(command("evaluate", "latest", "--data", str(image_file()), "--json").stdout)
    assert metrics["n"] == 24
    assert command("embed", "latest", "--data", file, "-o", "e.parquet").code == 0
    assert pq.read_table("e.parquet").schema.field("embedding").type == pa.list_(pa.float32(), 512)


@pytest.mark.parametrize(("columns", "colour"), [(80, True), (40, False)])
def test_the_dashboard(terminal, image_file, columns, colour):
    variables = {} if colour else {"NO_COLOR": "1"}
    arguments = ["run", *IMAGES, "--data", str(image_file()), "--output", "out", "--set", "tuning.method=full"]
    arguments += [] if colour else ["--foreground"]
    code, drawn = terminal(*arguments, columns=columns, **variables)
    assert code == 0, drawn
    text = ESCAPE.sub("", drawn)
    for part in ("loading PyTorch", "● train", "model", "method", "memory", "run ", "epoch ", "rate"):
        assert part in text, part
    after = text.rpartition("done in ")[2]
    assert "Test metrics" in after
    assert re.search(r"Accuracy +[01]\.\d{3}", after)
    assert "report" in after
    codes = {code for found in COLOUR.findall(drawn) for code in found[2:-1].split(";")}
    coloured = {code for code in codes if re.fullmatch(r"[39][0-7]|38|48|4[0-7]", code)}
    assert bool(coloured) == colour
    frames = drawn[: drawn.rindex("done in ")]
    for line in ESCAPE.sub("", frames).replace("\r", "\n").split("\n"):
        assert len(line) <= columns, line


@pytest.mark.parametrize("where", ["--foreground", "--plain"])
def test_an_interrupted_run_says_so(tmp_path, environment, image_file, where):
    """Where no terminal can be asked, Ctrl+C stops the run, in this process or in one of its own."""
    arguments = [
        where,
        *IMAGES,
        "--set",
        "tuning.method=full",
        "--set",
        "train.epochs=10000",
        "--set",
        "train.early_stopping.patience=0",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "deeptune", "run", *arguments, "--data", str(image_file()), "--output", "out"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            if any('"kind":"step"' in log.read_text() for log in tmp_path.glob("out/*/events.jsonl")):
                break
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert re.search(r"^stopped: the run was stopped \(.*\) at step \d+ of \d+$", stderr, re.M)
    assert "Resume with: deeptune resume out/" in stderr
    assert "stopping after this step" in stdout
    assert "Traceback" not in stdout + stderr
    (run,) = (tmp_path / "out").iterdir()
    assert "Traceback" not in (run / "console.log").read_text()
    for file in ("result.json", "status.json"):
        assert json.loads((run / file).read_text())["state"] == "stopped"
    assert json.loads((run / "events.jsonl").read_text().splitlines()[-1])["state"] == "stopped"
    assert not (run / "metrics.json").exists()
