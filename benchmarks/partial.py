"""A frozen backbone: DeepTune's whole run beside one raw forward pass, and beside a loop that passes it every epoch."""

from __future__ import annotations

import functools
import io
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lines import Measured, Settings, fastest_kernels, line, synchronise
from benchmarks.text import minilm

EPOCHS = 10


@dataclass
class Seconds:
    """The fewest seconds that each way took with the same rows: the raw pass, two runs, and the plain loop.

    Of the plain loop, `epoch` is one epoch with its validation, and `end` is the test and the embeddings of all rows.
    """

    rows: int
    forward: float
    first: float
    second: float
    epoch: float
    end: float


@functools.cache
def images(settings: Settings) -> Seconds:
    """Return openclipart7, several times over, at 96 pixels for ResNet-18 (random weights take as long as others)."""
    import torch
    import torchvision

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        # A file, as random weights of a spec would follow its seed.
        torch.save(torchvision.models.resnet18().state_dict(), f"{folder}/resnet18.pth")
        backbone = {"name": "resnet18", "weights": f"{folder}/resnet18.pth", "image_size": 96}
        return _measure("openclipart7", 1 if settings.quick else 8, backbone, settings)


@functools.cache
def texts(settings: Settings) -> Seconds:
    """Return movie snippets for MiniLM."""
    return _measure("movie_snippets", 1, {"name": f"hf:{minilm()}"}, settings, most=600 if settings.quick else 4000)


def _measure(sample: str, times: int, backbone: dict[str, Any], settings: Settings, most: int | None = None) -> Seconds:
    from deeptune.spec.toml import validate

    with scratch() as folder:
        rows = write_sample(sample, folder / "data.parquet", times, most)
        spec = validate(
            {
                "data": {"path": str(folder / "data.parquet"), "split": {"train": 0.7, "val": 0.1, "test": 0.2}},
                "backbone": backbone,
                "train": {
                    "epochs": EPOCHS, "early_stopping": {"patience": 0}, "device": settings.device, "workers": 0
                },
            }
        )  # fmt: skip
        again = spec.model_copy(update={"train": spec.train.model_copy(update={"seed": 7, "learning_rate": 3e-3})})
        turns = []
        for _ in range(1 if settings.quick else 3):  # a machine is not always equally fast
            with scratch() as runs:
                turns.append((raw_forward(spec), _run(spec, runs), _run(again, runs), *_plain_loop(spec, runs)))
        return Seconds(rows, *(min(column) for column in zip(*turns, strict=True)))


def write_sample(sample: str, path: Path, times: int, most: int | None = None) -> int:
    """Write a sample several times over, cut after `most` rows; returns how many there are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from deeptune.data.sources.parquet import open_source

    table = pq.read_table(open_source(f"sample:{sample}").files[0])
    table = pa.concat_tables([table] * times).slice(0, most)
    pq.write_table(table, path)
    return table.num_rows


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder for data and runs, with a cache of its own."""
    with tempfile.TemporaryDirectory() as name:
        before = os.environ.get("DEEPTUNE_CACHE")
        os.environ["DEEPTUNE_CACHE"] = f"{name}/cache"
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ["DEEPTUNE_CACHE"]
            else:
                os.environ["DEEPTUNE_CACHE"] = before


def _run(spec: Any, folder: Path) -> float:
    """Return a whole run, from reading the data to test metrics and embeddings of all rows.

    The report's pictures apart.
    """
    from deeptune.engine.run import execute
    from deeptune.runs import new_run_directory, read_records

    run = new_run_directory(folder / "runs", "benchmark")
    execute(spec, run)
    at = {event.get("phase", event["kind"]): event["t"] for event in read_records(run.events)}
    return at["report"] - at["data"]


def _batches(ready: Any, rows: np.ndarray) -> list[dict[str, Any]]:
    """Yield inputs of rows, ready on the device: decoded or tokenised, of like length."""
    from deeptune.data.loading.dataset import Dataset, SampleOptions
    from deeptune.data.loading.loader import Loader, LoaderOptions
    from deeptune.engine.device import rows_at_once

    source = ready.plan.splits["train"].source
    size = rows_at_once(ready.compute.device)
    inputs = ready.samples[source].inputs(SampleOptions())
    loader = Loader(Dataset(inputs, rows), LoaderOptions(size, by_length=True))
    return [batch.to(ready.compute.device).inputs for batch in loader]


def raw_forward(spec: Any) -> float:
    """Return the backbone alone over inputs that are ready: the limit."""
    import torch

    from deeptune.engine.prepare import prepare

    ready = prepare(spec)
    backbone = ready.backbone.to(ready.compute.device).eval()
    batches = _batches(ready, np.arange(ready.plan.splits["train"].source.num_rows))
    with torch.inference_mode(), ready.compute.autocast(), fastest_kernels():
        backbone(batches[0])
        synchronise()
        started = time.perf_counter()
        for inputs in batches:
            backbone(inputs)
        synchronise()
    return time.perf_counter() - started


def _plain_loop(spec: Any, folder: Path) -> tuple[float, float]:
    """Train as people write it by hand. Returns the seconds of an epoch, and of the end.

    The backbone is frozen. Train and val pass through it in every epoch, and at the end test and, for embeddings, all
    rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from torch.utils.data import DataLoader

    from deeptune.engine.prepare import prepare

    ready = prepare(spec)
    device, plan = ready.compute.device, ready.plan
    backbone = ready.backbone.to(device).eval()
    head = torch.nn.Linear(backbone.width, plan.outputs).to(device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    column = plan.splits["train"].source.column(plan.input)
    collate = _image_batch(spec) if plan.modality == "image" else _text_batch(minilm())

    def loader(*splits: str, shuffle: bool = False) -> Any:
        parts = [plan.splits[split] for split in splits]
        examples = [
            (column[int(row)].as_py(), int(y)) for data in parts for row, y in zip(data.rows, data.targets, strict=True)
        ]
        return DataLoader(
            examples,  # type: ignore[arg-type]
            batch_size=int(ready.spec.train.batch_size),
            shuffle=shuffle,
            collate_fn=collate,
        )

    def features_of(inputs: dict[str, Any]) -> Any:
        with torch.no_grad(), ready.compute.autocast(), fastest_kernels():
            return backbone({name: value.to(device) for name, value in inputs.items()}).float()

    def passed(loader: Any) -> Iterator[Any]:
        for inputs, _ in loader:
            yield features_of(inputs)

    train, val, test = loader("train", shuffle=True), loader("val"), loader("test")
    everything = loader("train", "val", "test")
    started = time.perf_counter()
    for inputs, targets in train:
        loss = torch.nn.functional.cross_entropy(head(features_of(inputs)), targets.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for features in passed(val):
        head(features).argmax(1).tolist()
    synchronise()
    ended = time.perf_counter()
    for features in passed(test):
        head(features).argmax(1).tolist()
    rows = np.concatenate([features.cpu().numpy() for features in passed(everything)])
    pq.write_table(pa.table({"embedding": list(rows)}), folder / "embeddings.parquet")
    return ended - started, time.perf_counter() - ended


def _image_batch(spec: Any) -> Callable[[list[Any]], Any]:
    import torch
    from PIL import Image
    from torchvision.transforms import functional as F

    size = spec.backbone.image_size

    def collate(examples: list[Any]) -> Any:
        decoded = (Image.open(io.BytesIO(content)).convert("RGB") for content, _ in examples)
        resized = [F.pil_to_tensor(F.center_crop(F.resize(image, [size * 8 // 7]), [size])) for image in decoded]
        return {"images": torch.stack(resized)}, torch.tensor([target for _, target in examples])

    return collate


def _text_batch(folder: Path) -> Callable[[list[Any]], Any]:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def collate(examples: list[Any]) -> Any:
        encoded = tokenizer([text for text, _ in examples], padding=True, truncation=True, return_tensors="pt")
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        return inputs, torch.tensor([target for _, target in examples])

    return collate


KINDS: tuple[tuple[str, str, Callable[[Settings], Seconds]], ...] = (
    ("images", "ResNet-18 at 96 px, openclipart7", images),
    ("texts", "MiniLM, movie snippets", texts),
)


def _add(kind: str, what: str, measure: Callable[[Settings], Seconds]) -> None:
    @line(f"partial-{kind}", f"partial, {EPOCHS} epochs, {what}: whole run over one raw forward pass", at_most=1.25)
    def over_forward(settings: Settings) -> Measured:
        found = measure(settings)
        return Measured(
            found.first / found.forward, f"{found.first:.1f} s against {found.forward:.1f} s, {found.rows} rows"
        )

    @line(
        f"partial-{kind}-loop",
        "the plain loop that passes the backbone each epoch, and for test and embeddings, over that run",
        at_least=8,
    )
    def loop_over_run(settings: Settings) -> Measured:
        found = measure(settings)
        epochs = EPOCHS * found.epoch
        made = f"{epochs:.0f} s ({EPOCHS} × one measured epoch) and {found.end:.0f} s at its end"
        alone = f"without its end {epochs / found.first:.1f}"
        return Measured((epochs + found.end) / found.first, f"{made} against {found.first:.1f} s; {alone}")

    @line(f"partial-{kind}-warm", "a second run, of another seed and learning rate, over the first", at_most=0.15)
    def second_over_first(settings: Settings) -> Measured:
        found = measure(settings)
        return Measured(found.second / found.first, f"{found.second:.2f} s against {found.first:.1f} s")


for kind, what, measure in KINDS:
    _add(kind, what, measure)


@line(
    "unfreeze-images",
    f"the last block of ResNet-18 learns (tuning.unfreeze = 1), 96 px, openclipart7, {EPOCHS} epochs: frozen blocks "
    "that pass each epoch over their outputs stored once",
)
def unfreeze_images(settings: Settings) -> Measured:
    """Return the loop of a run, fed in turns by the images and by what is stored of them."""
    from benchmarks.text import Loop, fitting
    from deeptune.data.cache.entry import Cache
    from deeptune.engine.feature_extraction import store_features
    from deeptune.engine.loaders import split_loader
    from deeptune.engine.micro_batch import MicroBatcher
    from deeptune.engine.prepare import prepare
    from deeptune.engine.run_logger import RunLogger
    from deeptune.runs import new_run_directory
    from deeptune.spec.toml import validate

    spec = validate(
        {
            "data": {"path": "sample:openclipart7", "split": {"train": 0.9, "val": 0.0, "test": 0.1}},
            "backbone": {"name": "resnet18", "weights": "random", "image_size": 96},
            "tuning": {"unfreeze": 1},
            "train": {"epochs": EPOCHS, "batch_size": 32, "device": settings.device},
            "embed": {"splits": []},
        }
    )
    with scratch() as folder, Cache(lambda text: None) as cache:
        logger = RunLogger(new_run_directory(folder / "runs", "benchmark"))
        ready = prepare(spec, cache=cache)
        ready.model.to(ready.compute.device)
        synchronise()
        started = time.perf_counter()
        stored = store_features(ready, cache, logger, MicroBatcher())
        storing = time.perf_counter() - started
        online, cached = (
            Loop(fitting(ready, functools.partial(_epochs, loader)))
            for loader in (
                split_loader(ready, "train", shuffle=True),
                split_loader(ready, "train", shuffle=True, stored=stored),
            )
        )
        steps = 4 if settings.quick else 24
        passing, reading = np.median([(online.step(), cached.step()) for _ in range(steps)], axis=0)
    each = ready.steps / EPOCHS
    whole = EPOCHS * each * passing, storing + EPOCHS * each * reading
    return Measured(
        whole[0] / whole[1],
        f"{1000 * passing:.0f} ms a step against {1000 * reading:.0f} ms, and {storing:.1f} s once for storing",
    )


def _epochs(loader: Any) -> Iterator[Any]:
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from loader
