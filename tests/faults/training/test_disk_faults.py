"""Disks that fill or turn read-only, a power cut, and clocks that jump."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.small_runs import new_run

from deeptune.engine import training
from deeptune.engine.run import execute
from deeptune.runs import run_state
from deeptune.spec import dump_spec, load_spec

TMPFS = """
set -e
mount -t tmpfs -o size={size} none {folder}
cd {folder}
{python} -c "
import os, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from deeptune.engine import run as run_module, run_logger
run_module.write_report = lambda path: None
run_logger.LOOK_AGAIN, run_logger.WAIT_FOR_ROOM = 0.2, {patience}
from deeptune.engine.runner import do_run
from deeptune.errors import DeepTuneError
from deeptune.runs import new_run_directory, write_text, run_state
from deeptune.checkpoint import load_checkpoint
run = new_run_directory(Path('runs'), 'test')
write_text(run.spec, Path('{spec}').read_text())
{before}
try:
    do_run(run)
except DeepTuneError as error:
    print('ended:', error.exit_code, error)
print('state:', run_state(run).word)
{after}
"
"""


def in_a_namespace(script: str, environment) -> str:
    """What a script printed that may mount things nobody else sees."""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


FILL = """
import shutil, threading, time
from deeptune.runs import read_records
def until(condition):
    while not condition():
        time.sleep(0.02)
def fill(enough):
    until((run.last / 'manifest.json').exists)
    with open('other', 'wb', buffering=0) as file:
        while not enough():  # what the run removes is taken, too
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                time.sleep(0.02)
"""
OUTCOME = """
import hashlib
for file in (run.best / 'model.safetensors', run.last / 'training.safetensors', run.metrics, run.predictions):
    print(file.name, hashlib.sha256(file.read_bytes()).hexdigest())
"""


def test_a_full_disk_pauses_the_run_which_goes_on_when_there_is_room(left_alone, tmp_path, environment):
    """A real file system of a few MB that another program fills and then gives back."""
    folder = tmp_path / "disk"
    folder.mkdir()
    before = (
        FILL
        + """
def fill_and_free():
    until((run.last / 'manifest.json').exists)
    limit = time.monotonic() + 20  # a disk that is full to the last page takes no status either
    fill(lambda: time.monotonic() > limit or run_state(run).status.get('state') == 'paused' or any(
        event['kind'] == 'warning' and 'waits' in event['message'] for event in read_records(run.events)))
    time.sleep(1)
    print('alive:', run_state(run).alive)
    print('kept:', load_checkpoint(run.last).manifest['training']['history']['steps'] > 0)
    os.unlink('other')
threading.Thread(target=fill_and_free, daemon=True).start()
"""
    )
    after = """
told = [event['message'] for event in read_records(run.events) if event['kind'] in ('warning', 'message')]
print(*told, sep=chr(10))
"""
    said = in_a_namespace(
        TMPFS.format(
            size="40m", folder=folder, python=sys.executable, spec=left_alone.spec, patience=60, before=before,
            after=after + OUTCOME,
        ),
        environment,
    )  # fmt: skip
    for part in ("alive: True", "kept: True", "state: done", "the run waits until there is room", "the run continues"):
        assert part in said, said
    for file in (left_alone.best / "model.safetensors", left_alone.last / "training.safetensors", left_alone.metrics):
        assert f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" in said, said


def test_a_disk_that_stays_full_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path, environment, spec_of):
    """A real file system of a few MB that another program fills while the run goes on."""
    spec = tmp_path / "spec.toml"
    spec.write_text(dump_spec(spec_of(epochs=400, checkpoint_every="1 steps", early_stopping={"patience": 0})))
    folder = tmp_path / "disk"
    folder.mkdir()
    before = (
        FILL
        + """
over = threading.Event()
other = threading.Thread(target=fill, args=(over.is_set,), daemon=True)
other.start()
"""
    )
    after = """
print('kept:', load_checkpoint(run.last).manifest['training']['history']['steps'] > 0)
over.set()
other.join()
os.unlink('other')
from deeptune.runs.control import request_stop
def stop():
    until(lambda: any(event['kind'] == 'resume' for event in read_records(run.events)))
    request_stop(run, 'by the test')
threading.Thread(target=stop, daemon=True).start()
try:
    do_run(run)
except DeepTuneError as error:
    print('resumed:', error.exit_code, error.message)
"""
    said = in_a_namespace(
        TMPFS.format(
            size="40m", folder=folder, python=sys.executable, spec=spec, patience=1.0, before=before, after=after
        ),
        environment,
    )
    assert "ended: 6 cannot write" in said, said
    assert "No space left on device" in said
    assert "state: failed" in said or "state: crashed" in said
    assert "kept: True" in said
    assert "resumed: 130 the run was stopped" in said


def test_a_file_system_that_turns_read_only_ends_the_run(tmp_path, environment, spec_of):
    spec = tmp_path / "spec.toml"
    spec.write_text(dump_spec(spec_of(epochs=400, checkpoint_every="1 steps", early_stopping={"patience": 0})))
    folder, closed = tmp_path / "disk", tmp_path / "closed"
    folder.mkdir()
    closed.mkdir()
    before = f"""
import subprocess, threading, time
def close():
    while not (run.last / 'manifest.json').exists():
        time.sleep(0.05)
    # With a file open for writing only a new mount over the old one can be read-only: one that the run
    # sees once it is, for a file that it opens in between would keep it from becoming so.
    subprocess.check_call(['mount', '--bind', '{folder}', '{closed}'])
    subprocess.check_call(['mount', '-o', 'remount,bind,ro', '{closed}'])
    subprocess.check_call(['mount', '--move', '{closed}', '{folder}'])
threading.Thread(target=close, daemon=True).start()
"""
    after = """
print('detail:', run_state(run).detail)
print('kept:', load_checkpoint(run.last).manifest['training']['history']['steps'] > 0)
"""
    said = in_a_namespace(
        TMPFS.format(
            size="60m", folder=folder, python=sys.executable, spec=spec, patience=1, before=before, after=after
        ),
        environment,
    )
    assert "ended: 6 cannot write" in said, said
    assert "Read-only file system" in said
    assert "detail: the file system of its folder became read-only" in said
    assert "kept: True" in said


def test_what_replaces_a_file_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch, spec_of):
    """The order that a power cut asks for: data, its folder, the rename, the folder of the rename."""
    calls = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def name_of(handle):
        return os.readlink(f"/proc/self/fd/{handle}")

    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append(("sync", name_of(handle))), fsync(handle))[1])
    for name, call in (("rename", rename), ("replace", replace)):
        monkeypatch.setattr(os, name, lambda a, b, call=call: (calls.append(("rename", str(a), str(b))), call(a, b))[1])
    run = new_run(tmp_path, spec_of("partial", epochs=1))
    execute(load_spec(run.spec), run)
    moves = [(at, call) for at, call in enumerate(calls) if call[0] == "rename" and "status.json" not in call[2]]
    assert {Path(call[2]).name for _, call in moves} >= {"last", "best", "metrics.json", "predictions.parquet"}
    for at, (_, source, target) in moves:
        if target.endswith((".gone", ".previous")) or source.endswith((".previous",)):
            continue
        synced = [call[1] for call in calls[:at] if call[0] == "sync"]
        assert any(path == source or path.startswith(f"{source}/") for path in synced), (source, target)
        if source.endswith(".new"):
            assert {Path(path).name for path in synced if path.startswith(f"{source}/")} >= {"head.safetensors"}
            assert source in synced
        after = [call[1] for call in calls[at + 1 :] if call[0] == "sync"]
        assert str(Path(target).parent) in after, target


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_no_duration(tmp_path, monkeypatch, jump, spec_of):
    run = new_run(tmp_path, spec_of("partial", epochs=6, early_stopping={"patience": 0}))
    clock, moved = time.time, []
    store = training.save_model

    def save_and_jump(*arguments, **options):
        moved.append(1)
        return store(*arguments, **options)

    monkeypatch.setattr(training, "save_model", save_and_jump)
    monkeypatch.setattr(time, "time", lambda: clock() + (jump if moved else 0.0))
    started = time.monotonic()
    result = execute(load_spec(run.spec), run)
    assert result["state"] == "done"
    assert 0 < result["seconds"] <= time.monotonic() - started + 1
    assert run_state(run).word == "done"
