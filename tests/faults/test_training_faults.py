"""Faults while a run trains: memory that runs out, numbers that blow up, disks that fill, clocks that jump."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from devices import ON_DEVICE, cpu_only
from drivers import Card, driver
from faults.killing import finish, kill, same_outcome, small_sample, start

from deeptune.checkpoint import load_checkpoint, previous
from deeptune.data.loading.loader import Batch
from deeptune.data.sources.source import Source
from deeptune.engine import fitting, heartbeat, loop, optimizer_step, verify
from deeptune.engine.device import Compute
from deeptune.engine.loop import fit
from deeptune.engine.loss import Criterion
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.prepare import make_criterion, prepare, split_loader
from deeptune.engine.run import execute
from deeptune.engine.run_logger import RunLogger
from deeptune.errors import DataError, RunStopped, SpecError, TrainingError, WeightsError
from deeptune.nvml import gpu_of
from deeptune.runs import RunDirectory, new_run_directory, read_records, run_state, write_text
from deeptune.runs.control import request_stop
from deeptune.spec import dump_spec, load_spec
from deeptune.spec.toml import validate


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory):
    """`spec_of("lora", epochs=4)`: a small run on real pictures, by default of every weight."""
    data = small_sample("openclipart7", tmp_path_factory.mktemp("data") / "images.parquet")

    def make(method="full", **settings):
        return validate(
            {
                "data": {"path": str(data), "split": {"train": 0.6, "val": 0.2, "test": 0.2}},
                "backbone": {"name": "timm:test_resnet", "weights": "random", "image_size": 32},
                "tuning": {"method": method},
                "train": {"epochs": 2, "batch_size": 16, **ON_DEVICE, "workers": 0, **settings},
            }
        )

    return make


def on_device(ready):
    ready.model.to(ready.compute.device)
    return ready


def new_run(root, spec):
    run = new_run_directory(root, "test")
    write_text(run.spec, dump_spec(spec))
    return run


def warnings_of(run):
    return [event["message"] for event in read_records(run.events) if event["kind"] == "warning"]


def steps_of(run):
    return [event for event in read_records(run.events) if event["kind"] == "step"]


# Memory.
OUT_OF_MEMORY = """
import json, resource, sys, torch
torch.set_num_threads(1)
from deeptune.data.loading.loader import Batch
from deeptune.engine import fitting, run as run_module
from deeptune.errors import DeepTuneError
from deeptune.runs import RunDirectory
from deeptune.spec import load_spec
from pathlib import Path

run = RunDirectory(Path(sys.argv[1]))
room = int(sys.argv[2])
fit = fitting.fit

def with_little_room(*arguments, **options):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    return fit(*arguments, **options)

fitting.fit = with_little_room
try:
    run_module.execute(load_spec(run.spec), run)
except DeepTuneError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def run_with_little_room(run: RunDirectory, room: int, environment, *, code: int = 0) -> tuple[int, str]:
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", OUT_OF_MEMORY, str(run.path), str(room)],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        # A library may itself crash when it gets not even a few bytes, or keep what it held when it was refused.
        if done.returncode == code:
            break
    return done.returncode, done.stdout + done.stderr


@cpu_only
def test_a_training_step_that_does_not_fit_is_done_in_parts(tmp_path, environment, spec_of):
    """The process may really have no more memory than the limit; the allocator refuses, the run goes on."""
    spec = spec_of(batch_size=96, epochs=1)
    spec = spec.model_copy(update={"backbone": spec.backbone.model_copy(update={"image_size": 192})})
    run = new_run(tmp_path, spec)
    code, said = run_with_little_room(run, 600 << 20, environment)
    assert code == 0, said
    told = [warning for warning in warnings_of(run) if warning.startswith("out of memory while training on")]
    assert told, warnings_of(run)
    assert "96 rows at once: continuing with 48" in told[0]
    assert "effective batch size" in told[0]
    result = json.loads(run.result.read_text())
    assert result["state"] == "done"
    assert result["steps"] == 1  # of a batch of 96, as without the want of memory
    assert result["test"]["n"] == len(pq.read_table(run.predictions))


@cpu_only
def test_memory_for_not_even_one_row_ends_with_advice(tmp_path, environment, spec_of):
    run = new_run(tmp_path, spec_of(epochs=1))
    code, said = run_with_little_room(run, 1 << 20, environment, code=5)
    assert code == 5, said
    assert "out of memory" in said
    assert "Traceback" not in said
    assert json.loads(run.result.read_text())["state"] == "failed"


class RunsOut:
    """A model that has no memory for more than some rows, as the allocator would say."""

    def __init__(self, model, most):
        self.forward, self.embed, self.most, self.seen = model.forward, model.embed, most, []

    def __call__(self, call):
        def limited(inputs):
            count = len(next(iter(inputs.values())))
            self.seen.append(count)
            if count > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return call(inputs)

        return limited


def test_parts_of_a_batch_give_the_gradient_of_the_whole(review_bert):
    """Without dropout and batch normalisation the weights end where those of whole batches do."""
    states = []
    for most in (1000, 5):
        spec = validate(
            {
                "data": {"path": "sample:movie_snippets", "split": {"train": 0.05, "val": 0.0, "test": 0.95}},
                "backbone": {"name": f"hf:{review_bert}", "max_length": 24},
                "tuning": {"method": "full"},
                "train": {"epochs": 1, "batch_size": 24, "optimizer": "sgd", "learning_rate": 0.01, **ON_DEVICE},
            }
        )
        ready = on_device(prepare(spec))
        for module in ready.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        runs_out = RunsOut(ready.model, most)
        ready.model.forward = runs_out(runs_out.forward)
        told = []
        hooks = loop.Hooks(warn=told.append)
        history = fit(
            Learner(ready.model, make_criterion(ready), ready.compute), ready.spec.train,
            split_loader(ready, "train", shuffle=True), hooks,
        )  # fmt: skip
        states.append({name: value.clone() for name, value in ready.model.tuned_state().items()})
        assert bool(told) == (most < 24)
        assert bool(history.at_once) == (most < 24)
        assert max(runs_out.seen[-5:]) <= most
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-6) for name in states[0])


def test_scoring_and_embedding_go_on_in_parts(tmp_path, monkeypatch, spec_of):
    alone = new_run(tmp_path, spec_of(epochs=1))
    execute(load_spec(alone.spec), alone)
    run = new_run(tmp_path, spec_of(epochs=1))
    rebuild = verify.rebuild_model

    def with_little_memory(*arguments, **options):
        model, manifest = rebuild(*arguments, **options)
        model.embed = RunsOut(model, 9)(model.embed)
        return model, manifest

    monkeypatch.setattr(verify, "rebuild_model", with_little_memory)
    execute(load_spec(run.spec), run)
    assert [w for w in warnings_of(run) if w == "out of memory while passing 16 rows at once: continuing with 8"]
    for name in ("predictions.parquet", "embeddings/train.parquet"):
        left, right = (pq.read_table(r.path / name).to_pydict() for r in (alone, run))
        assert left["row"] == right["row"]
        key = "probabilities" if name.startswith("p") else "embedding"
        assert torch.allclose(torch.tensor(left[key]), torch.tensor(right[key]), atol=1e-5)


def test_a_limit_of_one_row_can_not_be_halved():
    alone = Batch({"images": torch.zeros(1, 3, 8, 8)}, None, torch.arange(1))
    with pytest.raises(TrainingError, match="1 row at once, and fewer are not possible"):
        MicroBatcher().halve(alone, "passing")


def test_want_of_memory_limits_tokens_of_texts_and_rows_of_images():
    def sizes(limit, **inputs):
        batch = Batch(inputs, None, torch.arange(len(next(iter(inputs.values())))))
        return [len(piece) for piece in limit.pieces(batch)]

    told = []
    texts = MicroBatcher(told.append)
    texts.halve(Batch({"input_ids": torch.zeros(8, 512)}, None, torch.arange(8)), "training on")
    assert told == ["out of memory while training on 8 rows of 512 tokens at once: continuing with 2,048 tokens"]
    assert sizes(texts, input_ids=torch.zeros(32, 64)) == [32]  # short texts still pass whole
    assert sizes(texts, input_ids=torch.zeros(32, 100)) == [16, 16]  # in parts of like size
    assert sizes(texts, input_ids=torch.zeros(3, 4000)) == [1, 1, 1]
    images = MicroBatcher()
    images.halve(Batch({"images": torch.zeros(8, 3, 4, 4)}, None, torch.arange(8)), "training on")
    assert sizes(images, images=torch.zeros(9, 3, 4, 4)) == [3, 3, 3]
    budget = MicroBatcher(tokens=100)
    assert sizes(budget, features=torch.zeros(500, 7)) == [500]
    assert sizes(budget, input_ids=torch.zeros(5, 40)) == [2, 2, 1]


# Numbers.
def images_with_targets(path, targets):
    table = pq.read_table(Source.open("sample:openclipart7").files[0]).slice(0, len(targets))
    pq.write_table(pa.table({"images": table["images"], "labels": targets}), path)
    return str(path)


def poisoned(monkeypatch, rows):
    """A model whose loss is not a number for batches that hold one of `rows`."""
    targets = optimizer_step._targets

    def wrapped(batch):
        found = targets(batch)
        if set(batch.rows.tolist()) & set(rows):
            return found.float() * torch.nan
        return found

    monkeypatch.setattr(optimizer_step, "_targets", wrapped)


def regression_spec(tmp_path, spec_of, **settings):
    path = images_with_targets(tmp_path / "numbers.parquet", [float(row % 13) for row in range(160)])
    spec = spec_of("partial", **settings).model_dump()
    spec |= {"task": "regression", "data": {"path": path, "split": {"train": 0.6, "val": 0.2, "test": 0.2}}}
    spec["train"] |= {"loss": "mse", "early_stopping": {"metric": "auto", "patience": 0}}
    return validate(spec)


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, monkeypatch, spec_of):
    run = new_run(tmp_path, regression_spec(tmp_path, spec_of, epochs=3))
    ready = prepare(load_spec(run.spec))
    row = int(ready.plan.splits["train"].rows[5])
    poisoned(monkeypatch, {row})
    result = execute(load_spec(run.spec), run)
    assert result["state"] == "done"
    assert result["skipped_steps"] == 3  # one batch of each epoch holds the row
    epochs = [event for event in read_records(run.events) if event["kind"] == "epoch"]
    assert [epoch["skipped_steps"] for epoch in epochs] == [1, 1, 1]
    assert all(isinstance(epoch["train"]["loss"], float) for epoch in epochs)
    told = [warning for warning in warnings_of(run) if "the step was skipped" in warning]
    assert len(told) == 3
    assert "the loss is nan at step" in told[0]
    state = load_checkpoint(run.best).state
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("method", ["partial", "full"])
def test_a_skipped_step_changes_nothing(tmp_path, spec_of, method):
    """Not the weights, not the optimizer, not the running statistics, which the forward pass itself moves."""
    spec = spec_of(method, epochs=1)
    ready = on_device(prepare(spec))
    loader = split_loader(ready, "train", shuffle=True)
    before = {name: value.clone() for name, value in ready.model.state_dict().items()}

    class Broken(Criterion):
        def sum(self, outputs, targets):
            return super().sum(outputs, targets) * torch.nan

    with pytest.raises(TrainingError, match="every step of an epoch"):
        fit(Learner(ready.model, Broken("cross_entropy"), ready.compute), ready.spec.train, loader)
    assert all(torch.equal(before[name], value) for name, value in ready.model.state_dict().items())


@pytest.mark.parametrize("poison", [False, True])
def test_steps_that_are_read_late_as_on_a_gpu_learn_the_same(monkeypatch, spec_of, poison):
    """The optimizer is told on the device that a step changes nothing, before anyone has read that it is not finite."""

    def trained(late):
        monkeypatch.setattr(Compute, "reads_late", late)
        ready = on_device(prepare(spec_of(epochs=2, schedule="constant", warmup=0.0)))
        steps, told = [], []

        class PoisonedOnce(Criterion):
            def sum(self, outputs, targets):
                steps.append(len(targets))
                return super().sum(outputs, targets) * (torch.nan if poison and len(steps) == 3 else 1)

        loader = split_loader(ready, "train", shuffle=True)
        torch.manual_seed(0)
        history = fit(
            Learner(ready.model, PoisonedOnce("cross_entropy"), ready.compute), ready.spec.train, loader,
            loop.Hooks(warn=told.append),
        )  # fmt: skip
        losses = [epoch["train"]["loss"] for epoch in history.epochs]
        return dict(ready.model.named_parameters()), losses, history.skipped, told

    at_once, late = trained(False), trained(True)
    assert at_once[1:] == late[1:]
    assert late[2] == len(late[3]) == int(poison)
    for name, parameter in at_once[0].items():
        assert torch.equal(parameter, late[0][name]), name


def test_too_many_steps_in_a_row_end_the_run_with_step_rate_rows_and_advice(tmp_path, monkeypatch, spec_of):
    run = new_run(tmp_path, regression_spec(tmp_path, spec_of, epochs=4, batch_size=4))
    ready = prepare(load_spec(run.spec))
    rows = split_loader(ready, "train", shuffle=True).order(1)[20:]  # from the sixth step of the second epoch on
    first = split_loader(ready, "train", shuffle=True).order(1)[:20]
    poisoned(monkeypatch, set(rows.tolist()) - set(first.tolist()))
    monkeypatch.setattr(optimizer_step, "MAX_SKIPPED", 4)
    with pytest.raises(TrainingError) as caught:
        execute(load_spec(run.spec), run)
    for part in ("the loss is nan at step", "learning rate", "rows ", "4 steps in a row"):
        assert part in caught.value.message
    assert "train.learning_rate" in caught.value.hint
    assert json.loads(run.result.read_text())["error"]["hint"] == caught.value.hint


def test_weights_that_blow_up_never_become_a_checkpoint(tmp_path, spec_of):
    """A rate so high that weights overflow: what was stored before stays, and is finite."""
    spec = spec_of(epochs=30, optimizer="sgd", learning_rate=1e38, head_learning_rate=1e38, clip_norm=0.0, warmup=0.6)
    run = new_run(tmp_path, spec)
    with pytest.raises(TrainingError, match=r"finite|nan|inf"):
        execute(load_spec(run.spec), run)
    for folder in (run.best, run.last, previous(run.best), previous(run.last)):
        if folder.exists():
            checkpoint = load_checkpoint(folder)
            assert all(torch.isfinite(value).all() for value in checkpoint.state.values() if value.is_floating_point())


# Disks.
def until(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


TMPFS = """
set -e
mount -t tmpfs -o size={size} none {folder}
cd {folder}
{python} -c "
import os, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from deeptune.engine import run_logger
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
    request_stop(run)
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


# Clocks.
@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_no_duration(tmp_path, monkeypatch, jump, spec_of):
    run = new_run(tmp_path, spec_of("partial", epochs=6, early_stopping={"patience": 0}))
    clock, moved = time.time, []
    store = fitting.save_model

    def save_and_jump(*arguments, **options):
        moved.append(1)
        return store(*arguments, **options)

    monkeypatch.setattr(fitting, "save_model", save_and_jump)
    monkeypatch.setattr(time, "time", lambda: clock() + (jump if moved else 0.0))
    started = time.monotonic()
    result = execute(load_spec(run.spec), run)
    assert result["state"] == "done"
    assert 0 < result["seconds"] <= time.monotonic() - started + 1
    assert run_state(run).word == "done"


# Checkpoints and logs that are damaged.
def stopped_run(root, spec, *, after=2):
    """A run that was killed after some checkpoints."""
    run = new_run(root, spec)
    process = start(run)
    kinds = lambda: [e for e in read_records(run.events) if e["kind"] == "checkpoint" and e["which"] == "last"]  # noqa: E731
    until(lambda: len(kinds()) >= after)
    kill(process)
    return run


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 255
    file.write_bytes(content)


LONG = {"epochs": 8, "checkpoint_every": "4 steps", "early_stopping": {"patience": 0}}


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory, spec_of):
    return finish(new_run(tmp_path_factory.mktemp("alone"), spec_of(**LONG)))


@pytest.mark.parametrize(
    ("file", "how"), [("training.safetensors", "cut"), ("model.safetensors", "flipped"), ("manifest.json", "cut")]
)
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(left_alone, tmp_path, file, how, spec_of):
    run = stopped_run(tmp_path, spec_of(**LONG))
    damage(run.last / file, how)
    finish(run)
    (told,) = [warning for warning in warnings_of(run) if "training continues from the checkpoint before it" in warning]
    assert file in told
    same_outcome(left_alone, run)


def test_with_no_whole_checkpoint_left_training_starts_again_and_says_so(left_alone, tmp_path, spec_of):
    run = stopped_run(tmp_path, spec_of(**LONG))
    for folder in (run.last, previous(run.last)):
        damage(folder / "training.safetensors", "flipped")
    finish(run)
    assert any("training starts again from its first step" in warning for warning in warnings_of(run))
    same_outcome(left_alone, run)


def test_a_damaged_best_checkpoint_is_never_reported(left_alone, tmp_path, spec_of):
    run = stopped_run(tmp_path, spec_of(**LONG))
    damage((run.best if run.best.exists() else previous(run.best)) / "model.safetensors", "flipped")
    finish(run)
    same_outcome(left_alone, run)


def test_a_damaged_event_log_costs_the_damaged_lines_only(left_alone, tmp_path, spec_of):
    run = stopped_run(tmp_path, spec_of(**LONG))
    lines = run.events.read_bytes().split(b"\n")
    lines[3] = b'{"v":1,"seq":\xff\xfe broken'
    lines[5] = b"\x00" * 400
    run.events.write_bytes(b"\n".join(lines)[:-30])
    finish(run)
    same_outcome(left_alone, run)
    sequence = [event["seq"] for event in read_records(run.events)]
    assert sequence == sorted(set(sequence))
    assert read_records(run.events)[-1]["state"] == "done"


# What changed since.
def test_a_changed_run_is_refused_with_the_difference(tmp_path, spec_of):
    spec = spec_of(**LONG).model_dump()
    table, data = pq.read_table(spec["data"]["path"]), tmp_path / "data.parquet"
    pq.write_table(table, data)
    spec["data"]["path"] = str(data)
    run = stopped_run(tmp_path, validate(spec))
    kept = run.spec.read_text()

    run.spec.write_text(kept.replace("epochs = 8", "epochs = 9"))
    with pytest.raises(SpecError) as caught:
        execute(load_spec(run.spec), run)
    assert "train.epochs: 8 when it started, 9 now" in caught.value.message
    assert "with force" in caught.value.hint
    run.spec.write_text(kept)

    record = json.loads(run.run.read_text())
    changed = {**record, "fingerprints": {**record["fingerprints"], "backbone": "sha256:" + "0" * 64}}
    run.run.write_text(json.dumps(changed))
    with pytest.raises(WeightsError, match="backbone: this is not the run that was started: the weights changed"):
        execute(load_spec(run.spec), run)
    run.run.write_text(json.dumps(record))

    pq.write_table(table.slice(0, table.num_rows - 1), data)
    with pytest.raises(DataError, match="data: this is not the run that was started: the contents of its files"):
        execute(load_spec(run.spec), run)
    assert run.last.exists()

    result = execute(load_spec(run.spec), run, force=True)
    assert result["state"] == "done"
    attempt = json.loads(run.run.read_text())["attempts"][-1]
    assert len(attempt["overridden"]) == 1
    assert "the contents of its files changed" in attempt["overridden"][0]
    assert any(warning.startswith("resumed with force: data") for warning in warnings_of(run))


def test_data_that_vanished_is_told_and_nothing_is_lost(left_alone, tmp_path, spec_of):
    spec = spec_of(**LONG).model_dump()
    data, away = tmp_path / "data.parquet", tmp_path / "away"
    data.write_bytes(Path(spec["data"]["path"]).read_bytes())
    spec["data"]["path"] = str(data)
    run = stopped_run(tmp_path, validate(spec))
    data.rename(away)
    with pytest.raises(DataError, match=r"data\.path: there is no file or folder"):
        execute(load_spec(run.spec), run)
    away.rename(data)
    finish(run)
    same_outcome(left_alone, run)


# Signals.
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_runner_stores_training_at_the_next_step(left_alone, tmp_path, spec_of, number):
    run = new_run(tmp_path, spec_of(**LONG))
    process = start(run)
    until(lambda: steps_of(run))
    os.kill(process.pid, signal.SIGHUP)  # it is ignored
    os.kill(process.pid, number)
    process.join()
    state = run_state(run)
    assert state.word == "stopped"
    assert (
        f"the run was stopped (by {'SIGTERM' if number == signal.SIGTERM else 'Ctrl+C or SIGINT'}) at step"
        in state.detail
    )
    history = load_checkpoint(run.last).manifest["training"]["history"]
    assert f"at step {history['steps']} of 48" in state.detail
    same_outcome(left_alone, finish(run))


def test_a_second_interrupt_ends_the_runner_at_once(tmp_path, spec_of):
    run = new_run(tmp_path, spec_of(**{**LONG, "epochs": 1000}))
    process = start(run)
    until(lambda: steps_of(run))
    os.kill(process.pid, signal.SIGSTOP)  # so that both are there before the next step
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.001)
    process.join(60)
    assert process.exitcode is not None
    assert run_state(run).word == "stopped"


def test_a_sampler_tells_memory_gpus_and_a_request_to_stop(tmp_path, monkeypatch, spec_of):
    monkeypatch.setitem(sys.modules, "pynvml", driver(Card("GPU-aaa"), Card("GPU-bbb")))
    monkeypatch.setattr(heartbeat, "SAMPLE_INTERVAL", 0.2)
    monkeypatch.setattr(heartbeat, "LOOK_INTERVAL", 0.05)
    run = new_run(tmp_path, spec_of())
    logger = RunLogger(run)
    logger.gpu = gpu_of(0, "bbb")  # the run's own, of two
    beside = heartbeat.Sampler(run, logger)
    beside.start()
    try:
        until(lambda: any(event["kind"] == "sample" for event in read_records(run.events)))
        request_stop(run)
        until(lambda: logger.stop.reason is not None)
        until(lambda: json.loads(run.status.read_text())["state"] == "stopping")
    finally:
        beside.stop()
    sample = next(event for event in read_records(run.events) if event["kind"] == "sample")
    assert 0.01 < sample["process_gib"] < 100
    (gpu,) = sample["gpus"]
    assert gpu == {
        "number": 0, "utilisation": 91, "temperature": 55, "memory_gib": 3.0, "total_gib": 80.0,
        "power_watts": 312.5, "power_limit_watts": 400.0, "clock_share": 0.75,
    }  # fmt: skip
    assert not run.stop_request.exists()
    with pytest.raises(RunStopped):
        logger.stop.check()
