"""Full fine-tuning beside the raw step: forward, backward and a fused AdamW on synthetic tensors that are in place."""

from __future__ import annotations

import itertools
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lines import Measured, NotMeasured, Settings, fastest_kernels, line, synchronise
from benchmarks.partial import scratch
from benchmarks.text import Loop, fitting

# Dense peaks in TFLOP/s of 16-bit products that are summed in fp32, without sparsity: bf16, and fp16 of the T4, which
# has no bf16. The first name whose words are in the device's own name counts. Those of the T4 and the RTX cards were
# not compared with NVIDIA's papers yet: do so before quoting a share of them.
PEAKS = {
    "H200 NVL": 835.0,
    "H200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "A30": 165.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L4": 121.0,
    "T4": 65.0,
    "RTX 3090 Ti": 80.0,
    "RTX 3090": 71.0,
    "RTX 4090": 165.0,
    "RTX 5090": 209.5,
    "RTX 5080": 112.6,
    "RTX 5070 Ti": 87.9,
    "RTX 5070": 61.7,
}


@dataclass(frozen=True)
class Rates:
    """Samples a second of DeepTune's loop and of the raw step, and the floating point operations of one raw step."""

    ours: float
    raw: float
    rows: int
    operations: float

    def __str__(self) -> str:
        return f"{self.ours:.4g} samples/s against {self.raw:.4g}"

    def share_of_peak(self, device_name: str) -> float | None:
        """Return the share of the peak that DeepTune's loop has; None for a device whose peak is not known here."""
        peak = next((peak for name, peak in PEAKS.items() if re.search(rf"\b{name}\b", device_name)), None)
        return None if peak is None else self.operations / self.rows * self.ours / (peak * 1e12)


def measure(
    ready: Any, batches: Callable[[], Iterator[Any]], net: Any, inputs: dict[str, Any], *, rounds: int, block: int
) -> Rates:
    """Time DeepTune's loop over `batches` and the raw step of `net` over `inputs`, in turns of `block` steps."""
    compute, rows = ready.compute, len(next(iter(inputs.values())))
    operations = _operations(net, inputs, rows, compute)
    raw = Loop(_raw(net, inputs, rows, ready))
    ours = Loop(fitting(ready, batches))

    def per_step(loop: Loop) -> float:
        started = time.perf_counter()
        for _ in range(block):
            loop.step(wait=False)
        synchronise()
        return (time.perf_counter() - started) / block

    for loop in (ours, raw):
        per_step(loop)  # what is compiled or chosen in the first steps is not the step
    times = [(per_step(ours), per_step(raw)) for _ in range(rounds)]
    mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return Rates(rows / mine, rows / theirs, rows, operations)


def _loss(net: Any, inputs: dict[str, Any], targets: Any) -> Any:
    import torch

    outputs = net(**inputs) if "input_ids" in inputs else net(inputs["images"])
    return torch.nn.functional.cross_entropy(getattr(outputs, "logits", outputs).float(), targets)


def _raw(net: Any, inputs: dict[str, Any], rows: int, ready: Any) -> Callable[[Callable[[], None]], None]:
    """Return the raw step, compiled where DeepTune's is, for a Loop."""
    import torch

    targets = torch.zeros(rows, dtype=torch.int64, device=ready.compute.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(net) if ready.spec.train.compile else net

    def train(turn: Callable[[], None]) -> None:
        net.train()
        while True:
            with fastest_kernels():
                with ready.compute.autocast():
                    loss = _loss(forward, inputs, targets)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            turn()

    return train


def _operations(net: Any, inputs: dict[str, Any], rows: int, compute: Any) -> float:
    """Count floating point operations of forward and backward, by matrix products and convolutions."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    targets = torch.zeros(rows, dtype=torch.int64, device=compute.device)
    with FlopCounterMode(display=False) as counter, compute.autocast():
        _loss(net, inputs, targets).backward()
    net.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def prepared(
    data: str, backbone: dict[str, Any], rows: int, settings: Settings, cache: Any = None, **train: Any
) -> Any:
    from deeptune.engine.prepare import prepare
    from deeptune.spec.toml import validate

    ready = prepare(
        validate(
            {
                "data": {"path": f"sample:{data}", "split": {"train": 0.9, "val": 0.0, "test": 0.1}},
                "backbone": {"weights": "random", **backbone},
                "tuning": {"method": "full"},
                "train": {"epochs": 1, "batch_size": rows, "device": settings.device, **train},
            }
        ),
        cache=cache,
    )
    ready.model.to(ready.compute.device)
    return ready


def torchvision_net(name: str, device: Any) -> Any:
    import torch
    import torchvision

    return torchvision.models.get_model(name, num_classes=7).to(device, memory_format=torch.channels_last)


def random_images(rows: int, size: int, device: Any) -> dict[str, Any]:
    import torch

    return {"images": torch.randn(rows, 3, size, size, device=device).to(memory_format=torch.channels_last)}


@line(
    "full-images",
    "full fine-tuning, ResNet-18 at 96 px, openclipart7: samples/s over the raw step on synthetic tensors",
    at_least=0.95,
)
def full_images(settings: Settings) -> Measured:
    """Time DeepTune's whole loop: reading, the copy to the device, the step, the reports.

    The images are decoded before, once, as in a run.
    """
    from deeptune.data.cache.entry import Cache

    with scratch(), Cache(lambda text: None) as cache:
        return _full_images(settings, cache)


def _full_images(settings: Settings, cache: Any) -> Measured:
    from deeptune.engine.loaders import split_loader

    rows, size = 32, 96
    ready = prepared("openclipart7", {"name": "resnet18", "image_size": size}, rows, settings, cache)

    def batches() -> Iterator[Any]:
        for epoch in itertools.count():
            loader.set_epoch(epoch)
            yield from (batch for batch in loader if len(batch) == rows)

    loader = split_loader(ready, "train", shuffle=True)
    device = ready.compute.device
    inputs = random_images(rows, size, device)
    block = 20 if device.type == "cuda" else 1
    rounds = 4 if settings.quick else 24
    found = measure(ready, batches, torchvision_net("resnet18", device), inputs, rounds=rounds, block=block)
    return Measured(found.ours / found.raw, f"{found}, {ready.spec.train.workers} workers")


# On a GPU: the loop alone, over batches that are in memory.


def image_step(name: str, size: int, rows: int, settings: Settings, **train: Any) -> Rates:
    """Return the loop of a torchvision backbone beside the raw step.

    `train` are keys of the spec, such as `compile`.
    """
    import torch

    from deeptune.data.loading.loader import Batch

    ready = prepared("openclipart7", {"name": name, "image_size": size}, rows, settings, **train)
    images = torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8)
    batch = Batch({"images": images}, torch.zeros(rows, dtype=torch.int64), torch.arange(rows))
    device = ready.compute.device
    net = torchvision_net(name, device)
    return _step(ready, batch, net, random_images(rows, size, device), settings)


def text_step(config: Any, tokens: int, rows: int, settings: Settings, **train: Any) -> Rates:
    """Return a text model of this configuration, with random weights and no network, beside the raw step."""
    import torch
    from transformers import AutoModelForSequenceClassification, BertTokenizerFast

    from deeptune.data.loading.loader import Batch

    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder, "vocab.txt")
        vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]))
        BertTokenizerFast(str(vocabulary), model_max_length=tokens).save_pretrained(folder)
        config.save_pretrained(folder)
        ready = prepared("movie_snippets", {"name": f"hf:{folder}"}, rows, settings, **train)
    device = ready.compute.device
    inputs = {
        "input_ids": torch.randint(5, 30, (rows, tokens)),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.int64),
    }
    batch = Batch(inputs, torch.zeros(rows, dtype=torch.int64), torch.arange(rows))
    net = AutoModelForSequenceClassification.from_config(config).to(device)
    return _step(ready, batch, net, {name: value.to(device) for name, value in inputs.items()}, settings)


def _step(ready: Any, batch: Any, net: Any, inputs: dict[str, Any], settings: Settings) -> Rates:
    cuda = ready.compute.device.type == "cuda"
    batch = batch.pin_memory() if cuda else batch
    block = 20 if cuda else 1
    return measure(ready, lambda: itertools.repeat(batch), net, inputs, rounds=2 if settings.quick else 9, block=block)


def _on_gpu(rates: Callable[..., Rates], precision: str) -> Callable[[Settings], Measured]:
    """Return a line of a GPU: the compiled loop in a precision, over the raw compiled step in the same."""

    def measure(settings: Settings) -> Measured:
        import torch

        if not settings.device.startswith("cuda"):
            raise NotMeasured("needs `--device cuda`")
        torch.compiler.reset()
        found = rates(settings, precision=precision, compile=True)
        share = found.share_of_peak(torch.cuda.get_device_name(settings.device)) if precision != "fp32" else None
        peak = "" if precision == "fp32" else ", peak of this device not known"
        return Measured(found.ours / found.raw, f"{found}" + (peak if share is None else f", {share:.0%} of the peak"))

    return measure


def _resnet50(settings: Settings, **train: Any) -> Rates:
    return image_step("resnet50", 224, 128, settings, **train)


def _vit(settings: Settings, **train: Any) -> Rates:
    return image_step("vit_b_16", 224, 128, settings, **train)


def _bert(settings: Settings, **train: Any) -> Rates:
    from transformers import BertConfig

    return text_step(BertConfig(num_labels=2), 128, 128, settings, **train)


def _gpt2(settings: Settings, **train: Any) -> Rates:
    from transformers import GPT2Config

    return text_step(GPT2Config(num_labels=2, pad_token_id=0), 128, 128, settings, **train)


for _name, _what, _rates in (
    ("resnet50", "ResNet-50 at 224 px", _resnet50),
    ("vit", "ViT-B/16 at 224 px", _vit),
    ("bert", "BERT base, 128 tokens", _bert),
    ("gpt2", "GPT-2, 128 tokens", _gpt2),
):
    for _precision in ("bf16", "fp32"):
        line(
            f"gpu-{_name}" + ("" if _precision == "bf16" else "-fp32"),
            f"{_what}, {_precision}, 128 rows: samples/s over the raw compiled step",
            at_least=0.95,
        )(_on_gpu(_rates, _precision))
