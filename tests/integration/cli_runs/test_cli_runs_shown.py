"""What `deeptune runs`, `status`, `logs`, `attach` and the dashboard show of runs in every state."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
import time

from run_commands import STATUS, STEP, started
from runners import holding

from deeptune.runs import EventWriter, find_run, write_json, write_text

NAUGHTY = "\x1b[35;45m[red]owned\x1b]0;title\x07"
INERT = r"\x1b[35;45m[red]owned\x1b]0;title\x07"


def test_the_table_of_runs(make, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = command("runs")
    assert (answer.code, answer.stdout) == (0, "there are no runs in runs: start one with `deeptune run quickstart`\n")
    assert command("runs", "--json").stdout == "[]\n"
    best = {"epoch": 4, "metric": "val/macro_f1", "value": 0.5}
    made = {
        "done": make("a", result={"state": "done", "epochs": 7, "best": best, "test": {"accuracy": 0.5}}),
        "stopped": make("b", result={"state": "stopped", "message": "x"}),
        "failed": make("c", result={"state": "failed", "message": "x", "error": None}),
        "crashed": make("d"),
        "stale": make("e", host="elsewhere", boot_id="x", status={"heartbeat": time.time() - 100}),
        "presumed dead": make("f", host="elsewhere", boot_id="x", status={"heartbeat": time.time() - 10_000}),
        "running": make("g"),
    }
    for age, run in enumerate(made.values()):
        write_json(run.run, {"started": time.time() - 7000 + age})
    with holding(made["running"], **STATUS):
        shown = command("runs").stdout.splitlines()
        told = json.loads(command("runs", "--json").stdout)
    assert [row["state"] for row in told] == list(made)[::-1], "the newest is first"
    assert told[-1] == {
        **told[-1], "run": str(made["done"].path), "best": best, "over": True, "resumable": False,
        "test": {"accuracy": 0.5},
    }  # fmt: skip
    rows = {next(word for word in made if f" {word} " in line): line for line in shown[1:]}
    assert "● running" in rows["running"]
    assert "epoch 3/10  41%" in rows["running"]
    assert "val/loss 0.1250 (epoch 2)" in rows["running"]
    assert "✓ done" in rows["done"]
    assert "7 epochs" in rows["done"]
    assert "val/macro_f1 0.500 (epoch 4)" in rows["done"]
    assert all(line.rstrip().endswith("1 h") for line in shown[1:])


def test_the_status_of_a_run(make, command):
    run = make("one", status={"checkpoint": {"step": 40, "at": time.time() - 130}})
    write_text(run.console, "a line\nKilled: why\n")
    shown = command("status", run.id)
    assert shown.code == 0
    for part in (
        "state         ✗ crashed: process", "last words    Killed: why",
        "progress      epoch 3/10  41%, step 41 of 100",
        "loss          0.2500", "best          val/loss 0.1250 (epoch 2)", "sign of life  3 s ago", "process       ",
        "checkpoint    step 40, 2 min ago", "console       runs/one-", f"next          deeptune resume {run.id}",
    ):  # fmt: skip
        assert part in shown.stdout, part
    with holding(run, **STATUS) as pid:
        shown = command("status", run.id).stdout
        assert "phase         training" in shown
        assert "time left     at most 1:15" in shown
        assert f"process       {pid} on " in shown
        assert f"next          deeptune attach {run.id}" in shown
        told = json.loads(command("status", run.id, "--json").stdout)
    assert (told["state"], told["status"]["step"], told["process"]["pid"]) == ("running", 41, pid)


def write_log(run) -> EventWriter:
    log = EventWriter(run.events)
    log.record("run", id=run.id)
    log.record("phase", phase="train")
    log.record("step", **STEP)
    log.record(
        "epoch", epoch=1, epochs=10, train={"loss": 0.5}, val={"loss": float("nan"), "accuracy": 0.75}, best=True
    )
    log.record("sample", process_gib=1.5, free_gib=20.0, cpu_percent=99.0)
    log.record("resume", step=41, epoch=3)
    log.warning(NAUGHTY)
    log.record(NAUGHTY, text=NAUGHTY, more={NAUGHTY: 1})
    return log


def test_the_logs_of_a_run(make, command):
    run = make("one")
    write_log(run).close()
    with run.events.open("ab") as file:
        file.write(b"half a line\n" + b'{"v":1,"seq":99,"t":1.0,"kind":"step","loss":"x"}\n')
    run.console.write_bytes(b"first\n" + NAUGHTY.encode() + b"\n\xff\ttab\n 10%|#\r 20%|##\r\nlast words")
    answer = command("logs", run.id)
    assert answer.code == 0, answer.stderr
    log, _, tail = answer.stdout.partition(f"\nThe end of runs/{run.id}/console.log:\n")
    lines = log.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d |\(2 lines of .* are damaged", line) for line in lines), lines
    for part in (
        " training", " epoch 3/10  step 1/10  loss 0.2500  12.5 rows/s", " epoch 1/10  train loss 0.5000  val loss n/a",
        " sample process_gib=1.5 ", " resumed after step 41, in epoch 3", f" warning: {INERT}",
    ):  # fmt: skip
        assert part in log, part
    assert tail.splitlines() == ["first", INERT, "\ufffd       tab", " 10%|#", " 20%|##", "last words"]
    assert command("logs", run.id, "--console").stdout == tail
    assert "\x1b" not in answer.stdout


def test_logs_are_followed_until_the_run_is_over(make, tmp_path, environment):
    run = make("one")
    log = write_log(run)
    follow = ("logs", run.id, "--follow")
    with (
        holding(run) as pid,
        started(tmp_path, environment, *follow) as reader,
        started(tmp_path, environment, *follow, "--console") as other,
    ):
        first = [reader.stdout.readline() for _ in range(8)]
        assert "warning" in first[6]
        log.record("message", message="and one more")
        assert "and one more" in reader.stdout.readline()
        write_text(run.console, "printed\n")
        assert other.stdout.readline() == "printed\n"
        write_json(run.result, {"state": "stopped", "message": "x"})
        os.kill(pid, signal.SIGKILL)
        assert reader.wait(30) == other.wait(30) == 0


def test_what_files_say_is_inert_in_every_command(make, command, monkeypatch):
    """Names of runs, states, metrics, hosts, messages and the words of libraries, each with escapes and markup."""
    best = {"epoch": 1, "metric": f"val/{NAUGHTY}", "value": 1.0}
    run = make("one", status={"phase": NAUGHTY, "best": best}, host=NAUGHTY, boot_id="theirs")
    failed = make("two", result={"state": "failed", "message": NAUGHTY, "best": best, "error": {"message": NAUGHTY}})
    make("three", result={"state": NAUGHTY}, status={"state": NAUGHTY, "best": best})
    hidden = run.path.with_name(NAUGHTY.replace("/", "") + "-1")
    os.rename(run.path, hidden)
    for directory in (find_run(str(hidden)), failed):
        write_log(directory).close()
        write_text(directory.console, NAUGHTY)
    for arguments in (
        ["runs"], ["runs", "--json"], ["status", hidden.name], ["status", "two"], ["status", "three"],
        ["attach", "two"],
        ["logs", hidden.name], ["logs", "two", "--console"], ["stop", hidden.name, "--grace", "0"], ["stop", "two"],
        ["status", NAUGHTY + "no"], ["resume", hidden.name], ["status", hidden.name, "--json"], ["attach", "three"],
    ):  # fmt: skip
        answer = command(*arguments)
        shown = answer.stdout + answer.stderr
        assert answer.code != 1 or arguments[-1] == "two", answer
        assert "\x1b" not in shown, arguments
        assert "\x07" not in shown, arguments
        assert "Traceback" not in shown
        assert "owned" in shown or "three" in arguments, arguments


def test_a_tall_dashboard_has_a_chart_of_the_losses_and_fits(make):
    from rich.console import Console

    from deeptune.runs.event_log import EventReader
    from deeptune.show.dashboard import dashboard
    from deeptune.show.view import View

    run = make("one")
    log = write_log(run)
    for number in range(1, 31):
        log.record("step", **{**STEP, "step": number, "loss": 1 / number})
        if number % 10 == 0:
            log.record("epoch", epoch=number // 10, epochs=10, train={"loss": 1 / number}, val={"loss": 2 / number})
    view = View(run)
    for event in EventReader(run.events).poll():
        view.take(event)
    for height, utf8 in ((24, True), (40, True), (40, False)):
        out = Console(width=80, force_terminal=True, color_system=None, record=True, file=io.StringIO())
        out.print(dashboard(view, 80, height, utf8=utf8))
        shown = out.export_text()
        assert shown.count("\n") <= height
        assert ("val 0.06667" in shown) == (height > 24)
        assert ("┤" in shown) == (height > 24 and utf8)
        assert ("█" in shown) == (height == 24)  # a sparkline where there is no chart
        assert any(0x2800 < ord(character) <= 0x28FF for character in shown) == (height > 24 and utf8)


def test_a_dashboard_of_a_log_with_everything_in_it(make):
    """Two attempts, GPUs, damage and markup; drawn wide and narrow."""
    from rich.console import Console

    from deeptune.runs.event_log import EventReader
    from deeptune.show.dashboard import dashboard
    from deeptune.show.view import View

    run = make("one")
    log = write_log(run)
    for number in (1, 2, 3, 4):
        log.record("epoch", epoch=number, epochs=10, train={"loss": 1 / number}, val={"loss": 2 / number})
    log.record("checkpoint", which="best", epoch=3, metric="val/loss", value=0.5)
    log.record("checkpoint", which="last", epoch=3, step=30)
    log.record("run")
    log.record("resume", step=30, epoch=3)
    log.record("epoch", epoch=3, epochs=10, train={"loss": 9.0}, val={"loss": None})
    log.record("epoch", epoch="x", epochs=10, train={"loss": 1.0})
    gpu = {"utilisation": 87, "temperature": 64, "memory_gib": 10.0, "total_gib": 79.6}
    log.record("sample", process_gib=1.5, free_gib=20.0, gpus=[gpu, {"utilisation": "x"}, None])
    log.record("stopping", reason=NAUGHTY)
    view = View(run)
    reader = EventReader(run.events)
    for event in reader.poll():
        view.take(event)
    assert reader.broken == 1
    assert view.losses("train") == [1.0, 0.5, 9.0]
    assert view.losses("val") == [2.0, 1.0]
    with holding(run):
        view.look()
    view.last = time.time() - 40
    for width in (40, 80, 160):
        out = Console(width=width, force_terminal=True, color_system=None, record=True, file=io.StringIO())
        out.print(dashboard(view, width))
        shown = out.export_text()
        assert "\x1b" not in shown
        assert "● running · nothing new for 0:4" in shown or width == 40
    for part in (
        "87%  10.0 of 79.6 GiB  64 °C",
        "1.5 GiB, 20.0 GiB free",
        "step 30, 0:",
        f"after this step ({INERT[:9]}",
    ):
        assert part in shown, part


def test_a_log_of_a_day_is_shown_at_once(make, command):
    """100,000 events; the time it takes is not asserted, since tests run beside others."""
    run = make("one", result={"state": "stopped", "message": "x"})
    with run.events.open("w") as file:
        for number in range(1, 100_001):
            event = {"v": 1, "seq": number, "t": 1e9 + number, "kind": "step", **STEP}
            if number % 100 == 0:
                event |= {"kind": "epoch", "epoch": number // 100, "epochs": 1000, "train": {"loss": 0.5}}
            file.write(json.dumps(event) + "\n")
    answer = command("attach", run.id)
    assert answer.code == 130
    assert len(answer.stdout.splitlines()) == 1000
    assert "epoch 1000/1000" in answer.stdout.splitlines()[-1]


def test_a_command_in_a_thread_needs_no_signals(make, command):
    run = make("one", result={"state": "stopped", "message": "x"})
    codes = []
    thread = threading.Thread(target=lambda: codes.append(command("attach", run.id).code))
    thread.start()
    thread.join()
    assert codes == [130]
