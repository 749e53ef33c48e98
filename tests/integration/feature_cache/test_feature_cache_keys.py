"""The names of cache entries: they change with whatever changes the features, and with nothing else."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
from feature_runs import ROWS
from safetensors.torch import load_file, save_file

from deeptune.backbones import behaviour
from deeptune.data.cache.entry import key_of
from deeptune.data.loading import preprocessing
from deeptune.engine import extraction_job, feature_extraction
from deeptune.engine.prepare import prepare
from deeptune.spec.run_spec import SPLITS


def keys(spec) -> set[str]:
    """The names of the entries that a run of this spec would read."""
    ready = prepare(spec)
    sources = {data.source for data in ready.plan.splits.values()}
    frozen = extraction_job.FrozenBackbone.of(ready)
    jobs = [job for source in sources for job in feature_extraction._jobs_of(ready, source, list(SPLITS), frozen)]
    return {key_of(job.ingredients()) for job in jobs}


def test_whatever_changes_the_features_of_images_changes_the_key(image_spec, image_data, tmp_path, monkeypatch):
    spec, backbone = image_spec(), image_spec().backbone.model_dump()
    first = keys(spec)
    table = pq.read_table(image_data / "images.parquet")
    pq.write_table(table.slice(0, ROWS - 1), tmp_path / "fewer.parquet")
    pq.write_table(table.append_column("scans", table["images"]), tmp_path / "two.parquet")
    two = image_spec(data={"path": str(tmp_path / "two.parquet")})
    others = [
        image_spec(backbone={**backbone, "image_size": 64}),
        image_spec(backbone={**backbone, "pooling": "max"}),
        image_spec(backbone={**backbone, "weights": str(image_data / "other.safetensors")}),
        image_spec(backbone={**backbone, "weights": "random"}),
        image_spec(train={"precision": "bf16"}),
        image_spec(data={"path": str(tmp_path / "fewer.parquet")}),
        two,
        image_spec(data={"path": str(tmp_path / "two.parquet"), "input": "scans", "modality": "image"}),
    ]
    found = [first, *map(keys, others)]
    assert len(set.union(*found)) == len(found)
    assert keys(image_spec(train={"seed": 5, "batch_size": 3}, head={"layers": 2})) == first
    with monkeypatch.context() as patch:
        patch.setattr(preprocessing, "OVERSAMPLING", 3)
        assert keys(spec).isdisjoint(first)
    monkeypatch.setattr(behaviour, "version", lambda name: "0.0.1")
    assert keys(spec).isdisjoint(first)


def test_whatever_changes_the_features_of_texts_changes_the_key(text_spec, review_bert, tmp_path):
    import shutil

    backbone = text_spec().backbone.model_dump()
    first = keys(text_spec())

    def changed(name, edit):
        folder = shutil.copytree(review_bert, tmp_path / name)
        edit(folder)
        return text_spec(backbone={**backbone, "name": f"hf:{folder}"})

    def words(folder):
        content = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = content["model"]["vocab"]
        one, two = [word for word in vocabulary if word.isalpha()][:2]
        vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
        (folder / "tokenizer.json").write_text(json.dumps(content))

    def architecture(folder):
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, "num_attention_heads": 4}))

    def weights(folder):
        state = load_file(folder / "model.safetensors")
        next(iter(state.values())).view(-1)[0] += 1
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    others = [
        text_spec(backbone={**backbone, "max_length": 16}),
        text_spec(backbone={**backbone, "pooling": "cls"}),
        changed("words", words),
        changed("architecture", architecture),
        changed("weights", weights),
    ]
    found = [first, *map(keys, others)]
    assert len(set.union(*found)) == len(found)
    assert keys(changed("elsewhere", lambda folder: None)) == first
    used = prepare(text_spec())
    used.backbone.preprocessing.tokenizer(["a text"], truncation=True, max_length=5, padding=True)
    frozen = extraction_job.FrozenBackbone.of(used)
    (again,) = feature_extraction._jobs_of(used, used.plan.splits["train"].source, list(SPLITS), frozen)
    assert {key_of(again.ingredients())} == first
