"""The training of a run in words: learning rate, weights of the loss, augmentation, clipping."""

from __future__ import annotations

from deeptune.report.finished_run import FinishedRun


def learning_rate(run: FinishedRun) -> str:
    """Describe the learning rate and its schedule."""
    train = run.spec.train
    rate = number(train.learning_rate)
    if not run.spec.tuning.frozen and train.head_learning_rate not in ("auto", train.learning_rate):
        rate += f", head {number(train.head_learning_rate)}"
    if not run.spec.tuning.frozen and train.layer_decay != 1:
        rate += f", times {number(train.layer_decay)} for each block towards the input"
    warmup = f" after {train.warmup:.0%} warmup" if train.warmup else ""
    return f"{rate}, {train.schedule} schedule{warmup}"


def loss_extras(run: FinishedRun) -> str:
    """List weights and smoothing of the loss in parentheses; empty where there are none."""
    train = run.spec.train
    extras = []
    if train.class_weights != "none":
        balanced = train.class_weights == "balanced"
        extras.append("classes weighted by inverse frequency" if balanced else "given class weights")
    if train.label_smoothing:
        extras.append(f"label smoothing {train.label_smoothing:g}")
    return f" ({', '.join(extras)})" if extras else ""


def augmented(run: FinishedRun) -> str:
    """Describe what else changes the training, as the end of a sentence."""
    train = run.spec.train
    ways = [f"{train.augmentation} augmentation"] if train.augmentation != "none" else []
    ways += mixes(run)
    if train.batch_norm == "frozen" and not run.spec.tuning.frozen:
        ways.append("the pretrained statistics of batch normalisation")
    if train.average == "ema":
        ways.append("an exponential moving average of the weights")
    return f", with {' and '.join(ways)}" if ways else ""


def mixes(run: FinishedRun) -> list[str]:
    """Name the ways in which images are mixed."""
    train = run.spec.train
    named = (("mixup", train.mixup), ("CutMix", train.cutmix))
    return [f"{name} (alpha {number(alpha)})" for name, alpha in named if alpha]


def clipping(norm: float) -> str:
    """Say at which norm gradients are clipped."""
    return f"gradient norm clipped at {norm:g}" if norm else "no gradient clipping"


def number(value: float | str) -> str:
    """Write a number shortly; a word stays as it is."""
    return f"{value:g}" if isinstance(value, (int, float)) else value
