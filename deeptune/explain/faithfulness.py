"""Tests of explanations: does the output fall when what they name is taken away, more than by chance?

Deletion and insertion curves (Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421), against random orders and the
explanation of a model with shuffled weights (Adebayo et al. 2018, https://arxiv.org/abs/1810.03292).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from scipy.integrate import trapezoid
from torch import Tensor

from deeptune.model.build import TunedModel

SHARES = np.linspace(0, 1, 11)  # shares of the parts that are taken away or put in
RANDOM_ORDERS = 5
MIN_ROWS = 5  # rows that a judgement needs
LEVEL = 0.95
MIN_CHANGE = 0.1  # change of the output from blank to whole that a row needs, as a share of the range that masks reach
MAX_SIMILARITY = 0.5  # largest rank correlation with the explanation of shuffled weights
Ask = Callable[[np.ndarray], np.ndarray]  # masks bool (M, parts) of what is kept → outputs float64 (M,)


@dataclass(frozen=True)
class Curves:
    """Outputs at each of SHARES, on a scale where the blank sample is 0 and the whole one 1 or -1: float64 (11,).

    It is -1 where the whole sample has less of the output than the blank one. What speaks for the output raises it
    there too, so the scale never turns the curves over.
    """

    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def area(self) -> float:
        """The area between insertion and deletion: 0 for an order of no meaning, higher is better."""
        return float(trapezoid(self.insertion - self.deletion, SHARES))


@dataclass(frozen=True)
class RowTest:
    """The curves of one sample: of the explanation, of random orders (their mean), and of shuffled weights."""

    explained: Curves
    random: Curves
    shuffled: Curves
    similarity: float  # Spearman's correlation with the explanation of shuffled weights

    @property
    def gain(self) -> float:
        return self.explained.area - self.random.area


@dataclass(frozen=True)
class Verdict:
    """The verdict on a set of explanations against random orders: the mean gain with its 95% interval."""

    rows: int
    gain: float
    interval: tuple[float, float] | None
    shuffled_gain: float
    similarity: float

    @property
    def better(self) -> bool | None:
        """None where there are too few rows to say."""
        return None if self.interval is None else self.interval[0] > 0

    @property
    def text(self) -> str:
        """One or two sentences."""
        if self.interval is None:
            return f"{self.rows} explanations are too few to tell them from chance ({MIN_ROWS} are needed)."
        low, high = self.interval
        said = f"gain over random orders {self.gain:.2f} (95% interval {low:.2f} to {high:.2f}, n = {self.rows})"
        judged = (
            f"On average, the highest-ranked parts change the output more than random ones: {said}."
            if self.better
            else f"Not shown to be better than random: {said}. Do not interpret these."
        )
        if self.similarity > MAX_SIMILARITY:
            judged += (
                f" They resemble those of a model with shuffled weights (rank correlation {self.similarity:.2f}), so "
                "they show the sample more than the model."
            )
        return judged


def verdict(tests: Sequence[RowTest]) -> Verdict:
    """Judge a set by a t interval over its rows."""
    gains = np.array([test.gain for test in tests])
    interval = None
    if len(gains) >= MIN_ROWS:
        low, high = stats.t.interval(LEVEL, len(gains) - 1, gains.mean(), max(stats.sem(gains), 1e-12))
        interval = (float(low), float(high))
    shuffled = float(np.mean([test.shuffled.area - test.random.area for test in tests])) if tests else 0.0
    similarity = float(np.mean([test.similarity for test in tests])) if tests else 0.0
    return Verdict(len(gains), float(gains.mean()) if len(gains) else 0.0, interval, shuffled, similarity)


def row_test(ask: Ask, scores: np.ndarray, shuffled: np.ndarray, rng: np.random.Generator) -> RowTest:
    """Test one explanation: its scores and those of shuffled weights (float (parts,)); the largest come first."""
    parts = len(scores)
    blank, whole = map(float, ask(np.stack([np.zeros(parts, bool), np.ones(parts, bool)])))
    raw = [_curves(ask, rng.permutation(parts)) for _ in range(RANDOM_ORDERS)]
    raw += [_curves(ask, np.argsort(-each, kind="stable")) for each in (scores, shuffled)]
    *random, explained, other = _scaled(raw, blank, whole)
    mean = Curves(np.mean([c.deletion for c in random], 0), np.mean([c.insertion for c in random], 0))
    constant = np.ptp(scores) == 0 or np.ptp(shuffled) == 0
    similarity = 0.0 if constant else float(stats.spearmanr(scores, shuffled).statistic)
    return RowTest(explained, mean, other, similarity)


def _curves(ask: Ask, order: np.ndarray) -> Curves:
    """Return the outputs as the model gives them."""
    counts = np.round(SHARES * len(order)).astype(int)
    masks = np.zeros((len(counts), len(order)), bool)
    for step, count in enumerate(counts):
        masks[step, order[:count]] = True
    found = ask(np.concatenate([~masks, masks]))
    return Curves(found[: len(counts)], found[len(counts) :])


def _scaled(curves: Sequence[Curves], blank: float, whole: float) -> list[Curves]:
    """Put curves on the scale of `Curves`.

    Where blank and whole hardly differ, that scale would make any order look far better or worse than another: then
    the range of all outputs is 1.
    """
    seen = np.concatenate([part for each in curves for part in (each.deletion, each.insertion)])
    spread, change = float(np.ptp(seen)), abs(whole - blank)
    if change <= MIN_CHANGE * spread:
        change = spread or 1.0
    return [Curves((each.deletion - blank) / change, (each.insertion - blank) / change) for each in curves]


def shuffled_weights(model: TunedModel, seed: int) -> TunedModel:
    """Return a copy of a model in which the numbers of each weight matrix are in a random order.

    Norms and biases stay.
    """
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.ndim > 1:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                flat: Tensor = parameter.detach().reshape(-1)[order]
                parameter.copy_(flat.reshape(parameter.shape))
    return other.eval()
