"""`deeptune runs`, `attach`, `status`, `logs`, `stop` and `resume`, on runs in every state."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from runners import child, goes_on, holding, kinds, new_run, runner, step, until

from deeptune.runs import EventWriter, find_run, new_run_directory, run_state, runs_in, write_json, write_text
from deeptune.runs.lock import lock_owner, run_lock

NAUGHTY = "\x1b[35;45m[red]owned\x1b]0;title\x07"
INERT = r"\x1b[35;45m[red]owned\x1b]0;title\x07"
STEP = {
    "step": 41, "steps": 100, "epoch": 3, "epochs": 10, "epoch_step": 1, "epoch_steps": 10, "loss": 0.25,
    "learning_rate": 1e-3, "rate": 12.5,
}  # fmt: skip
STATUS = {"phase": "train", "eta": 75.0, "best": {"epoch": 2, "metric": "val/loss", "value": 0.125}, **STEP}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """`make("name", ...)` makes a run whose runner is gone, with this status, result and owner of the lock."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, *, result: dict | None = None, status: dict | None = None, **owner):
        run = new_run_directory(tmp_path / "runs", name)
        write_text(run.spec, '[data]\npath = "x.parquet"\n[backbone]\nname = "resnet18"\n')
        with run_lock(run):
            pass
        run.lock.write_text(json.dumps({**json.loads(run.lock.read_text()), **owner}))
        write_json(run.status, {"state": "running", "pid": 1, "heartbeat": time.time() - 3, **STATUS, **(status or {})})
        if result is not None:
            write_json(run.result, result)
        return run

    return write


@pytest.fixture
def at_work(tmp_path, image_file, monkeypatch):
    """A run at work in a process of its own."""
    monkeypatch.chdir(tmp_path)
    run = new_run(tmp_path / "runs", image_file())
    with runner(run):
        until(lambda: step(run) > 0)
        yield run


@contextmanager
def started(folder: Path, environment, *arguments: str):
    """The command line in a process of its own, which no terminal watches."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deeptune", *arguments],
        cwd=folder, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_run_from_its_start_by_one_command_to_its_end_by_another(cli, tmp_path, environment, image_file, monkeypatch):
    """`run --detach`, the other viewers, `stop`, `resume`: each command in a process of its own, as people use them."""
    words = {
        "backbone.name": "resnet18", "backbone.weights": "random", "backbone.image_size": 32, "train.device": "cpu",
        "tuning.method": "full", "train.epochs": 40, "train.batch_size": 4, "train.early_stopping.patience": 0,
    }  # fmt: skip
    arguments = [word for key, value in words.items() for word in ("--set", f"{key}={value}")]
    monkeypatch.chdir(tmp_path)
    image_file()
    answer = cli("run", "--data", "images.parquet", *arguments, "--detach")
    (run,) = runs_in(tmp_path / "runs")
    assert (answer.code, answer.stdout) == (0, f"{run.id}\n"), answer.stderr
    assert f"deeptune attach {run.id}" in answer.stderr
    assert str(tmp_path / "images.parquet") in run.spec.read_text()

    with started(tmp_path, environment, "attach", "latest", "--plain") as viewer:
        until(lambda: step(run) > 0, seconds=120)
        viewer.send_signal(signal.SIGKILL)
    refused = cli("resume", run.id)
    assert refused.code == 6
    assert f"the run {run.id} is in progress" in refused.stderr
    (listed,) = json.loads(cli("runs", "--json").stdout)
    assert (listed["run"], listed["state"], listed["alive"]) == (str(run.path), "running", True)

    answer = cli("stop", run.id[:-2])
    assert answer.code == 0, answer.stderr
    kept = re.fullmatch(rf"stopped at step (\d+) of 160; resume with: deeptune resume {run.id}\n", answer.stdout)
    assert kept, answer
    again = cli("stop", run.id)
    assert again.code == 0
    assert f"at step {kept[1]} of 160" in again.stdout
    assert cli("attach", run.id).code == 130

    answer = cli("resume", "latest", "--json")
    assert answer.code == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert (told["run"], told["state"]) == (str(run.path), "done")
    assert told["test"]["n"] > 0
    told = kinds(run)
    assert told.count("run") == 2
    assert told.count("end") == 2
    done = cli("resume", run.id)
    assert done.code == 0
    assert "nothing to do: the run is done" in done.stderr


def test_a_script_that_is_interrupted_leaves_a_run_that_it_only_looks_at(at_work, tmp_path, environment):
    for number, code in ((signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)):
        with started(tmp_path, environment, "attach", at_work.id) as viewer:
            assert at_work.id in viewer.stdout.readline()
            viewer.send_signal(number)
            stdout, stderr = viewer.communicate(timeout=30)
        assert viewer.returncode == code, stderr
        assert f"the run continues: deeptune attach {at_work.id}" in stderr
        assert "Traceback" not in stdout + stderr
    assert goes_on(at_work)
    assert "stopping" not in kinds(at_work)


# Stopping.


def test_two_who_stop_a_run_at_once(at_work, tmp_path, environment):
    with (
        started(tmp_path, environment, "stop", "latest") as one,
        started(tmp_path, environment, "stop", "latest") as two,
    ):
        for command in (one, two):
            stdout, stderr = command.communicate(timeout=60)
            assert command.returncode == 0, stderr
            assert f"deeptune resume {at_work.id}" in stdout or "nothing to stop" in stdout
    assert run_state(at_work).word == "stopped"
    assert kinds(at_work).count("stopping") == 1


def test_a_runner_that_does_not_answer_is_asked_by_signal_and_then_killed(at_work, cli):
    owner = lock_owner(at_work)
    os.kill(owner.pid, signal.SIGSTOP)
    answer = cli("stop", at_work.id, "--grace", "1")
    assert answer.code == 0, answer.stderr
    told = [line for line in answer.stderr.splitlines() if "sending" in line]
    assert [re.findall(r"SIG\w+", line) for line in told] == [["SIGTERM"], ["SIGKILL"]]
    assert all(f"process {owner.pid}" in line for line in told)
    assert re.match(r"killed at step \d+ of [\d,]+, .*; resume with: deeptune resume ", answer.stdout)
    assert os.waitstatus_to_exitcode(os.waitpid(owner.pid, 0)[1]) == -signal.SIGKILL
    assert run_state(at_work).word == "crashed"


def test_the_kill_takes_the_whole_group_of_a_runner(make, cli):
    """Its data workers are in it, whoever started them. A process that has the number by chance is left alone."""
    run = make("group")
    told, tell = os.pipe()

    def hold() -> None:
        with run_lock(run):
            if (worker := os.fork()) == 0:
                if os.fork() == 0:  # its parent is gone: only the group tells whose it is
                    os.write(tell, str(os.getpid()).encode())
                    time.sleep(600)
                os._exit(0)
            os.waitpid(worker, 0)
            time.sleep(600)

    with child(hold) as pid:
        orphan = psutil.Process(int(os.read(told, 20)))
        os.kill(pid, signal.SIGSTOP)
        assert orphan.ppid() != pid
        answer = cli("stop", run.id, "--grace", "0")
        assert answer.code == 0, answer.stderr
        until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    with run_lock(run):
        pass
    run.lock.write_text(json.dumps({**json.loads(run.lock.read_text()), "process_started": 1.0}))
    assert cli("stop", run.id, "--grace", "0").code == 5


def test_a_run_on_another_machine_is_only_asked(make, command):
    run = make("far", host="elsewhere", boot_id="theirs")
    answer = command("stop", run.id, "--grace", "0.3")
    assert answer.code == 0
    assert "It runs on elsewhere, where no signal reaches it from here: the request stands" in answer.stderr
    assert run.stop_request.exists()


def test_waiting_for_a_stop_can_be_left(at_work, tmp_path, environment):
    os.kill(lock_owner(at_work).pid, signal.SIGSTOP)
    with started(tmp_path, environment, "stop", "latest") as command:
        assert "asked the run to stop" in command.stderr.readline()
        command.send_signal(signal.SIGINT)
        assert command.wait(30) == 130
        assert "the request stands" in command.stderr.read()
    os.kill(lock_owner(at_work).pid, signal.SIGCONT)
    until(lambda: run_state(at_work).word == "stopped")


@pytest.mark.parametrize(("word", "code"), [("done", 0), ("stopped", 0), ("failed", 3), (None, 5)])
def test_a_run_that_is_over_has_nothing_to_stop(make, command, word, code):
    error = {"title": "data error", "message": "row 3 is bad", "hint": None}
    run = make("over", result=word and {"state": word, "message": "a word", "error": error})
    for verb in ("stop", "attach") if word != "done" else ("stop",):
        answer = command(verb, run.id)
        assert answer.code == (130 if (verb, word) == ("attach", "stopped") else code), answer
        assert "Traceback" not in answer.stderr
    assert not run.stop_request.exists()


# Resuming.


def test_what_is_not_resumed(make, command):
    far = make("far", host="elsewhere", boot_id="theirs", status={"heartbeat": time.time() - 100})
    answer = command("resume", far.id)
    assert answer.code == 6
    assert "may be in progress: last sign of life on elsewhere 10" in answer.stderr
    assert "--force" in answer.stderr
    with holding(far):
        assert command("resume", far.id, "--force").code == 6, "a lock is stronger than force"
    wrong = make("wrong")
    write_text(wrong.spec, "[trian]\n")
    answer = command("resume", wrong.id)
    assert answer.code == 2
    assert "trian: unknown key" in answer.stderr
    assert command("resume", wrong.id, "--detach", "--foreground").code == 2
    assert command("resume", "nothing").code == 2


def test_what_was_done_but_for_its_report_is_completed(command, image_file):
    settings = ("backbone.name=resnet18", "backbone.weights=random", "backbone.image_size=32", "train.epochs=1")
    words = [word for setting in settings for word in ("--set", setting)]
    assert command("run", "--data", str(image_file()), *words, "--foreground", "--plain").code == 0
    run = find_run("latest")
    run.report.unlink()
    answer = command("resume", "latest", "--json")
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["state"] == "done"
    assert run.report.exists()
    shown = command("attach", "latest")
    assert shown.code == 0
    assert "epoch 1/1" in shown.stdout
    assert "Test metrics" in shown.stdout
    assert "deeptune evaluate" in command("status", "latest").stdout


# Looking.


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
