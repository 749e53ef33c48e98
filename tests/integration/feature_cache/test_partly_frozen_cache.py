"""Runs whose last blocks learn, on what the frozen blocks before them gave once."""

from __future__ import annotations

import json
import os

import pyarrow.parquet as pq
import pytest
import torch
import transformers
from devices import DEVICE, ON_DEVICE
from feature_runs import ROWS, entries, log, losses, online
from safetensors.torch import load_file

from deeptune.engine.activations import CutActivations
from deeptune.engine.loaders import split_loader
from deeptune.engine.predict import Predictor
from deeptune.engine.prepare import prepare
from deeptune.runs import read_records
from deeptune.spec.run_spec import SPLITS


@pytest.fixture(scope="module")
def gpt2(review_bert, tmp_path_factory):
    """Three layers of GPT-2, random weights, with the tokenizer of the small BERT."""
    return text_folder(
        tmp_path_factory.mktemp("gpt2"),
        review_bert,
        lambda words: transformers.GPT2Config(
            vocab_size=words, n_embd=32, n_layer=3, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
        ),
    )


@pytest.fixture(scope="module")
def t5(review_bert, tmp_path_factory):
    return text_folder(
        tmp_path_factory.mktemp("t5"),
        review_bert,
        lambda words: transformers.T5Config(
            vocab_size=words, d_model=32, d_kv=16, d_ff=48, num_layers=3, num_heads=2, decoder_start_token_id=0
        ),
    )


def text_folder(folder, tokenizer_of, config):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        transformers.AutoModel.from_config(config(len(tokenizer))).save_pretrained(folder)
    return folder


@pytest.fixture
def partly(image_spec, text_spec, image_data, review_bert, gpt2):
    """`partly(kind, ...)` is a spec whose last block learns."""
    backbones = {
        "cnn": {"name": "timm:test_resnet", "weights": str(image_data / "weights.safetensors"), "image_size": 32},
        "vit": {"name": "timm:test_vit", "weights": "random", "image_size": 32},
        "bert": {"name": f"hf:{review_bert}", "max_length": 32},
        "gpt2": {"name": f"hf:{gpt2}", "max_length": 32},
    }

    def make(kind, **parts):
        spec = image_spec if kind in ("cnn", "vit") else text_spec
        parts["train"] = {"start": "random"} | parts.get("train", {})  # a head fitted first has features of its own
        return spec(**{"tuning": {"unfreeze": 1}, "backbone": backbones[kind], **parts})

    return make


@pytest.fixture
def blocks_passed(monkeypatch):
    """How many rows passed the frozen blocks to be stored."""
    counts = []
    flat = CutActivations.flat

    def counting(self, inputs):
        counts.append(len(next(iter(inputs.values()))))
        return flat(self, inputs)

    monkeypatch.setattr(CutActivations, "flat", counting)

    def since_the_last_time():
        found = sum(counts)
        counts.clear()
        return found

    return since_the_last_time


@pytest.mark.parametrize("kind", ["cnn", "vit", "bert", "gpt2"])
def test_stored_blocks_give_each_epoch_the_loss_of_the_run_that_stores_nothing(
    run, partly, monkeypatch, cache_folder, blocks_passed, passed, kind
):
    spec = partly(kind)
    stored = run(spec)
    assert (blocks_passed(), passed()) == (ROWS, 0)
    assert f"{ROWS} rows passed the frozen blocks once; the others train on what these gave" in log(stored)
    online(monkeypatch, cache_folder)
    recomputed = run(spec)
    assert passed() > 2 * ROWS
    assert "not stored, and the frozen blocks pass each epoch, because" in log(recomputed)
    assert losses(stored) == pytest.approx(losses(recomputed), abs=1e-5)
    assert losses(stored)[0] != pytest.approx(losses(stored)[-2], abs=1e-3)
    for name in ("predictions.parquet", "embeddings/train.parquet"):
        ours, theirs = (pq.read_table(one.path / name) for one in (stored, recomputed))
        column = ours.column_names[-1] if "predictions" not in name else "probabilities"
        assert ours["row"].equals(theirs["row"])
        pairs = zip(ours[column].to_pylist(), theirs[column].to_pylist(), strict=True)
        assert all(one == pytest.approx(other, abs=1e-4) for one, other in pairs)


@pytest.mark.parametrize("kind", ["cnn", "bert"])
def test_a_second_run_with_blocks_that_learn_passes_no_row_through_the_frozen_ones(run, partly, blocks_passed, kind):
    cold = run(partly(kind))
    assert blocks_passed() == ROWS
    warm = run(partly(kind))
    assert f"the features of all {ROWS} rows were in the cache: no row passes the frozen blocks" in log(warm)
    assert losses(cold) == losses(warm)
    assert json.loads(cold.metrics.read_text()) == json.loads(warm.metrics.read_text())
    for part in ("head", "blocks"):
        ours, theirs = (load_file(one.best / f"{part}.safetensors") for one in (cold, warm))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    run(partly(kind, train={"epochs": 1, "batch_size": 7, "seed": 3, "learning_rate": 1e-3}, head={"layers": 2}))
    assert blocks_passed() == 0
    run(partly(kind, tuning={"unfreeze": 2}))
    assert blocks_passed() == ROWS


def test_the_entry_of_texts_holds_a_vector_for_each_token_and_none_for_padding(run, partly):
    spec = partly("bert")
    run(spec)
    (entry,) = entries()
    ready = prepare(spec)
    tokens = sum(int(split_loader(ready, split, shuffle=False).lengths.sum()) for split in SPLITS)
    assert (entry.folder / "data.bin").stat().st_size == tokens * 32 * 4
    assert (entry.rows, entry.width, entry.complete) == (ROWS, 32, True)
    assert "before encoder.layer.1" in entry.what


def test_damaged_blocks_of_texts_are_computed_again(run, partly, blocks_passed):
    first = run(partly("bert"))
    blocks_passed()
    (entry,) = entries()
    with (entry.folder / "data.bin").open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\1" * 8)
    again = run(partly("bert"))
    assert 0 < blocks_passed() < ROWS
    assert f"1 of {ROWS} rows of the stored features" in log(again)
    assert losses(first) == losses(again)


def test_views_of_images_are_stored_before_the_blocks_that_learn(run, partly, monkeypatch, cache_folder, blocks_passed):
    train = {"epochs": 2, "augmentation": "light", "views": 2, "batch_size": 16, **ON_DEVICE}
    two = run(partly("cnn", train=train))
    rows = len(prepare(partly("cnn")).plan.splits["train"].rows)
    assert blocks_passed() == ROWS + 2 * rows
    online(monkeypatch, cache_folder)
    drawn = run(partly("cnn", train={**train, "views": 0}))
    assert losses(two) == pytest.approx(losses(drawn), abs=1e-5)


def test_a_backbone_that_cannot_be_cut_trains_all_the_same(run, text_spec, t5, passed):
    tuning, train = {"unfreeze": 1}, {"start": "random"}
    spec = text_spec(backbone={"name": f"hf:{t5}", "max_length": 32}, tuning=tuning, train=train)
    done = run(spec)
    assert "as their outputs can't be stored, because the layers of hf:" in log(done)
    assert passed() > 2 * ROWS
    assert not entries()


@pytest.mark.parametrize("kind", ["cnn", "gpt2"])
def test_what_is_stored_of_a_partly_frozen_backbone_is_what_learned_and_makes_the_same_model(run, partly, kind):
    spec = partly(kind, train={"batch_norm": "train"} if kind == "cnn" else {})
    done = run(spec)
    stored = load_file(done.best / "blocks.safetensors")
    start = {"cnn": "backbone.net.layer4.", "gpt2": ("backbone.net.h.2.", "backbone.net.ln_f.")}[kind]
    assert stored
    assert all(name.startswith(start) for name in stored)
    told = next(event for event in read_records(done.events) if event["kind"] == "start")
    learned = sum(t.numel() for name, t in stored.items() if "running" not in name and "num_batches" not in name)
    head = sum(tensor.numel() for tensor in load_file(done.best / "head.safetensors").values())
    assert told["parameters"]["trainable"] == learned + head
    model = Predictor(done, device=DEVICE).trained.model
    assert {name: t.tolist() for name, t in model.tuned_state().items() if "net" in name} == {
        name: t.tolist() for name, t in stored.items()
    }
    frozen = prepare(spec).backbone.net.state_dict()
    for name, tensor in model.backbone.net.state_dict().items():
        assert torch.equal(tensor.cpu(), frozen[name].cpu()) == (f"backbone.net.{name}" not in stored), name
