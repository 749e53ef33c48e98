"""`deeptune stop` and `resume`, and `attach` to runs at work, on runs in every state."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import psutil
import pytest
from run_commands import started
from runners import child, goes_on, holding, kinds, new_run, runner, step, until

from deeptune.runs import find_run, run_state, runs_in, write_text
from deeptune.runs.lock import lock_owner, run_lock


@pytest.fixture
def at_work(tmp_path, image_file, monkeypatch):
    """A run at work in a process of its own."""
    monkeypatch.chdir(tmp_path)
    run = new_run(tmp_path / "runs", image_file())
    with runner(run):
        until(lambda: step(run) > 0)
        yield run


def test_a_run_from_its_start_by_one_command_to_its_end_by_another(cli, tmp_path, environment, image_file, monkeypatch):
    """`run --detach`, the other viewers, `stop`, `resume`: each command in a process of its own, as people use them."""
    words = {
        "backbone.name": "mobilenet_v3_small", "backbone.weights": "random", "backbone.image_size": 32,
        "train.device": "cpu", "tuning.method": "full", "train.epochs": 80, "train.batch_size": 4,
        "train.early_stopping.patience": 0,
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
    kept = re.fullmatch(rf"stopped at step (\d+) of 320; resume with: deeptune resume {run.id}\n", answer.stdout)
    assert kept, answer
    again = cli("stop", run.id)
    assert again.code == 0
    assert f"at step {kept[1]} of 320" in again.stdout
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
