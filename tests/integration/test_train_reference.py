"""The loop against a plain PyTorch loop written here from nothing: same seed, same order, same head."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace

import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import functional as TF

from deeptune.data.sources.parquet import open_source
from deeptune.engine.loaders import split_loader
from deeptune.engine.loop import Hooks, fit
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.prepare import make_criterion, prepare
from deeptune.spec.toml import validate

STEPS = 20


def learning_rate_factor(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (steps - warmup))


def plain_loop(net, batches, groups, steps, *, clip):
    """AdamW, linear warmup over a tenth of the steps, then cosine; returns the loss of each step."""
    # The same kernel: Adam's first steps are nearly the sign of the gradient, so that rounding grows at once.
    optimizer = torch.optim.AdamW(groups, fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step, (inputs, targets) in enumerate(batches):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * learning_rate_factor(step, steps, round(0.1 * steps))
        loss = nn.functional.cross_entropy(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def decayed_groups(modules_and_rates, decay):
    return [
        {
            "params": [p for p in module.parameters() if (p.ndim >= 2) == wide],
            "lr": rate,
            "weight_decay": decay if wide else 0.0,
        }
        for module, rate in modules_and_rates
        for wide in (True, False)
    ]


def deeptune_losses(spec_values):
    """Train with DeepTune's own parts; returns (ready, loss of each step, order of rows, state before)."""
    ready = prepare(validate(spec_values))
    before = {name: value.clone() for name, value in ready.model.state_dict().items()}
    loader = split_loader(ready, "train", shuffle=True)
    order = torch.as_tensor(loader.order(0))
    losses = []

    class EveryStep:
        """The loop reports losses a few times a second; here each one is wanted."""

        def __init__(self, criterion):
            self.criterion = criterion

        def sum(self, outputs, targets):
            loss = self.criterion.sum(outputs, targets)
            losses.append(float(loss.detach()) / len(targets))
            return loss

        def count(self, targets):
            return self.criterion.count(targets)

    torch.manual_seed(0)
    fit(Learner(ready.model, EveryStep(make_criterion(ready)), ready.compute), ready.spec.train, loader)
    return ready, losses, order, before


def head_and_body(before, body_prefix):
    head = {name.removeprefix("head.last_layer."): value for name, value in before.items() if name.startswith("head.")}
    body = {name.removeprefix(body_prefix): value for name, value in before.items() if name.startswith(body_prefix)}
    return head, body


@pytest.mark.parametrize("tuning", [{"method": "full"}, {"method": "partial", "unfreeze": 3}], ids=["full", "unfreeze"])
def test_images_end_with_the_loss_of_a_plain_loop(tuning):
    spec = {
        "data": {"path": "sample:openclipart7", "split": {"train": 0.28, "val": 0.0, "test": 0.72}},
        "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
        "tuning": tuning,
        "train": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-4, "head_learning_rate": 1e-3, "weight_decay": 0.05,
                  "device": "cpu", "workers": 0},
    }  # fmt: skip
    ready, losses, order, before = deeptune_losses(spec)
    source = open_source("sample:openclipart7")
    images, labels = source.column("images"), source.column("labels")
    head_state, body_state = head_and_body(before, "backbone.net.")

    net = torchvision.models.resnet18(weights=None)
    net.fc = nn.Linear(512, 7)
    net.load_state_dict(body_state, strict=False)
    net.fc.load_state_dict(head_state)
    net.to(memory_format=torch.channels_last).train()

    def load(row):
        image = Image.open(io.BytesIO(images[row].as_py())).convert("RGB")
        image = TF.center_crop(TF.resize(image, [37], antialias=True), [32])  # 256 : 224, as its weights were trained
        return TF.normalize(TF.to_tensor(image), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    batches = [
        (torch.stack([load(int(row)) for row in rows]), torch.tensor([labels[int(row)].as_py() for row in rows]))
        for rows in order.split(8)
    ]
    head = net.fc
    body = nn.ModuleList(module for name, module in net.named_children() if name != "fc")
    if "unfreeze" in tuning:
        frozen = [net.conv1, net.bn1, net.layer1, net.layer2, net.layer3[0]]
        for module in frozen:
            module.requires_grad_(False).eval()
        body = nn.ModuleList([net.layer3[1], net.layer4])
    reference = plain_loop(net, batches, decayed_groups([(body, 1e-4), (head, 1e-3)], 0.05), len(batches), clip=1.0)
    assert len(losses) == len(reference) >= STEPS
    assert losses[:STEPS] == pytest.approx(reference[:STEPS], abs=1e-5)
    assert reference[-1] != pytest.approx(reference[0], abs=1e-2)
    trained = ready.model.head.last_layer.weight
    assert torch.allclose(trained, net.fc.weight, atol=1e-5)


def test_text_ends_with_the_loss_of_a_plain_loop(review_bert):
    from transformers import AutoModel, AutoTokenizer

    spec = {
        "data": {"path": "sample:movie_snippets", "split": {"train": 0.1, "val": 0.0, "test": 0.9}},
        "backbone": {"name": f"hf:{review_bert}", "max_length": 48},
        "tuning": {"method": "full"},
        "train": {"epochs": 1, "batch_size": 8, "learning_rate": 5e-4, "head_learning_rate": 1e-3, "weight_decay": 0.01,
                  "device": "cpu"},
    }  # fmt: skip
    ready, losses, order, before = deeptune_losses(spec)
    source = open_source("sample:movie_snippets")
    texts, labels = source.column("text"), source.column("labels")
    tokenizer = AutoTokenizer.from_pretrained(review_bert)
    head_state, _ = head_and_body(before, "backbone.net.")

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = AutoModel.from_pretrained(review_bert, add_pooling_layer=False)
            self.head = nn.Linear(self.body.config.hidden_size, 2)
            self.head.load_state_dict(head_state)

        def forward(self, encoded):
            hidden = self.body(**encoded).last_hidden_state
            mask = encoded["attention_mask"].unsqueeze(-1).float()
            return self.head((hidden * mask).sum(1) / mask.sum(1))

    net = Plain().train()
    batches = []
    for rows in order.split(8):
        encoded = tokenizer(
            [texts[int(row)].as_py() for row in rows], padding=True, truncation=True, max_length=48, return_tensors="pt"
        )
        encoded = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        batches.append((encoded, torch.tensor([labels[int(row)].as_py() for row in rows])))
    torch.manual_seed(0)
    reference = plain_loop(
        net, batches, decayed_groups([(net.body, 5e-4), (net.head, 1e-3)], 0.01), len(batches), clip=1.0
    )
    assert len(losses) == len(reference) >= STEPS
    assert losses[:STEPS] == pytest.approx(reference[:STEPS], abs=1e-5)
    name = "encoder.layer.0.attention.self.query.weight"
    trained, plain = ready.model.backbone.net.get_parameter(name), net.body.get_parameter(name)
    assert torch.allclose(trained, plain, atol=1e-5)
    assert (trained - before[f"backbone.net.{name}"]).abs().max() > 1e-3


def test_accumulated_batches_give_the_gradient_of_one_large_batch():
    """Also with a short last batch and class weights, where averaging the means of the batches is wrong."""
    states = []
    for batch_size, accumulation in ((24, 1), (8, 3)):
        spec = validate(
            {
                "data": {"path": "sample:openclipart7", "split": {"train": 0.11, "val": 0.0, "test": 0.89}},
                "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
                "train": {"epochs": 2, "batch_size": batch_size, "accumulation": accumulation,
                          "class_weights": "balanced", "optimizer": "sgd", "learning_rate": 0.05, "device": "cpu"},
            }
        )  # fmt: skip
        ready = prepare(spec)
        assert len(ready.plan.splits["train"]) % 8
        fit(
            Learner(ready.model, make_criterion(ready), ready.compute),
            ready.spec.train,
            split_loader(ready, "train", shuffle=True),
        )
        states.append(ready.model.tuned_state())
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-6), name


def test_each_report_has_the_share_of_time_spent_waiting_for_data(monkeypatch):
    """By a clock that goes on by 3 in the loader and by 1 in the model."""
    now = [100.0]
    monkeypatch.setattr("deeptune.engine.loop.time", SimpleNamespace(monotonic=lambda: now[0]))
    spec = {
        "data": {"path": "sample:openclipart7", "split": {"train": 0.11, "val": 0.0, "test": 0.89}},
        "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
        "train": {"epochs": 1, "batch_size": 8, "device": "cpu"},
    }
    ready = prepare(validate(spec))
    loader = split_loader(ready, "train", shuffle=True)
    ready.model.register_forward_pre_hook(lambda *_: now.__setitem__(0, now[0] + 1))

    class Slow:
        set_epoch = loader.set_epoch

        def __len__(self):
            return len(loader)

        def __iter__(self):
            for batch in loader:
                now[0] += 3
                yield batch

    reports = []
    learner = Learner(ready.model, make_criterion(ready), ready.compute)
    fit(learner, ready.spec.train, Slow(), Hooks(step=reports.append))
    assert len(reports) == len(loader)
    assert [report.waiting for report in reports] == pytest.approx([0.75] * len(reports))
