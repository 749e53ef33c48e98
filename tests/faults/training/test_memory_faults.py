"""Memory that runs out while a run trains, scores or embeds."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch
from devices import ON_DEVICE, cpu_only
from faults.small_runs import new_run, on_device, warnings_of

from deeptune.data.loading.loader import Batch
from deeptune.engine import loop, verify
from deeptune.engine.loaders import split_loader
from deeptune.engine.loop import fit
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.prepare import make_criterion, prepare
from deeptune.engine.run import execute
from deeptune.errors import TrainingError
from deeptune.runs import RunDirectory
from deeptune.spec import load_spec
from deeptune.spec.toml import validate

OUT_OF_MEMORY = """
import json, resource, sys, torch
torch.set_num_threads(1)
from deeptune.data.loading.loader import Batch
from deeptune.engine import run as run_module, training
from deeptune.errors import DeepTuneError
from deeptune.runs import RunDirectory
from deeptune.spec import load_spec
from pathlib import Path

run = RunDirectory(Path(sys.argv[1]))
room = int(sys.argv[2])
fit = training.fit
soft, hard = resource.getrlimit(resource.RLIMIT_AS)

def with_little_room(*arguments, **options):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, hard))
    return fit(*arguments, **options)

training.fit = with_little_room
run_module.write_report = lambda path: None
try:
    run_module.execute(load_spec(run.spec), run)
except DeepTuneError as error:
    # PyTorch's own exit handlers import modules, and print a traceback where they get no memory.
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
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
    assert result["steps"] == 1  # of a batch of 96, as with enough memory
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
        return [len(piece) for piece in limit.split(batch)]

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
