"""Operating points: thresholds by their rule on val, counts as SciPy's and scikit-learn's, curves and their bands."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.proportion import proportion_confint

from deeptune.errors import SpecError
from deeptune.report.operating_points import _curves, _figures, at_prevalence, rates
from deeptune.report.resampling import all_positive, decision_band, precision_recall_band, roc_band
from deeptune.spec.report_spec import ReportSpec
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.thresholds import choose_threshold, operating_points, positive_classes


def scores(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    return positive, np.round(1 / (1 + np.exp(-(2 * positive - 1 + rng.normal(size=n)))), 2)


def all_points(positive: np.ndarray, chance: np.ndarray) -> list[tuple[float, float]]:
    """Sensitivity and specificity at every threshold that can be told apart, by count."""
    bars = [*np.unique(chance), 2.0]
    return [((chance >= bar)[positive].mean(), (chance < bar)[~positive].mean()) for bar in bars]


@pytest.mark.parametrize("least", [0.5, 0.9, 0.95, 1.0])
def test_a_sensitivity_is_reached_with_the_highest_specificity(least: float) -> None:
    positive, chance = scores()
    bar = choose_threshold(positive, chance, f"sensitivity >= {least}")
    assert (chance >= bar)[positive].mean() >= least
    best = max(spec for sens, spec in all_points(positive, chance) if sens >= least)
    assert (chance < bar)[~positive].mean() == best


@pytest.mark.parametrize("least", [0.5, 0.9, 1.0])
def test_a_specificity_is_reached_with_the_highest_sensitivity(least: float) -> None:
    positive, chance = scores(seed=1)
    bar = choose_threshold(positive, chance, f"specificity >= {least}")
    assert (chance < bar)[~positive].mean() >= least
    best = max(sens for sens, spec in all_points(positive, chance) if spec >= least)
    assert (chance >= bar)[positive].mean() == best


def test_youden_is_the_largest_gap_of_the_roc_curve() -> None:
    positive, chance = scores(seed=2)
    bar = choose_threshold(positive, chance, "youden")
    false, true, _ = sk.roc_curve(positive, chance, drop_intermediate=False)
    said = chance >= bar
    assert said[positive].mean() - said[~positive].mean() == pytest.approx((true - false).max())


def test_a_given_threshold_is_taken_and_one_kind_of_rows_gives_half() -> None:
    positive, chance = scores()
    assert choose_threshold(positive, chance, 0.3) == 0.3
    assert choose_threshold(np.ones(9, bool), chance[:9], "youden") == 0.5


def test_the_positive_class_is_the_second_of_two_or_the_one_that_is_named() -> None:
    task = ClassificationTask(("benign", "malignant"))
    assert positive_classes(task, ReportSpec()) == [1]
    assert positive_classes(task, ReportSpec(positive="benign")) == [0]
    assert positive_classes(ClassificationTask((1, 2, 3)), ReportSpec()) == [0, 1, 2]
    with pytest.raises(SpecError, match="there is no class 'sick'"):
        positive_classes(task, ReportSpec(positive="sick"))


def test_the_points_of_a_class_against_the_rest_are_those_of_val() -> None:
    rng = np.random.default_rng(0)
    chances, truth = rng.dirichlet(np.ones(3), 90), rng.integers(0, 3, 90)
    found = operating_points(ClassificationTask((1, 2, 3)), ReportSpec(operating_point=0.4), chances, truth)
    assert [one["class"] for one in found] == [0, 1, 2]
    said = chances[:, 2] >= 0.4
    assert found[2]["sensitivity"] == pytest.approx(said[truth == 2].mean())


def test_shares_have_wilsons_interval_and_likelihood_ratios_that_of_the_log_method() -> None:
    positive, chance = scores(200)
    said = chance >= 0.4
    found = rates(positive, said, np.arange(200), grouped=False)
    (tn, fp), (fn, tp) = sk.confusion_matrix(positive, said)
    counts = {"sensitivity": (tp, tp + fn), "specificity": (tn, tn + fp), "ppv": (tp, tp + fp), "npv": (tn, tn + fn)}
    for name, (part, whole) in counts.items():
        assert found[name]["value"] == pytest.approx(part / whole)
        assert found[name]["interval"] == pytest.approx(proportion_confint(part, whole, method="wilson")), name
    positives, negatives = sk.class_likelihood_ratios(positive, said)
    assert found["lr_positive"]["value"] == pytest.approx(positives)
    assert found["lr_negative"]["value"] == pytest.approx(negatives)
    risk = stats.contingency.relative_risk(int(tp), int(tp + fn), int(fp), int(fp + tn)).confidence_interval(0.95)
    assert found["lr_positive"]["interval"] == pytest.approx((risk.low, risk.high))


def test_a_likelihood_ratio_without_false_positives_is_finite() -> None:
    positive = np.arange(40) < 20
    said = np.arange(40) < 15
    ratio = rates(positive, said, np.arange(40), grouped=False)["lr_positive"]
    assert ratio["value"] == pytest.approx((15.5 / 21) / (0.5 / 21))
    assert all(map(math.isfinite, ratio["interval"]))


def test_a_likelihood_ratio_of_groups_without_false_positives_has_no_interval() -> None:
    positive = np.repeat(np.arange(40) < 20, 10)
    said = np.repeat(np.arange(40) < 15, 10)
    found = rates(positive, said, np.arange(400) // 10, grouped=True)
    assert found["lr_positive"]["value"] > 100
    assert found["lr_positive"]["interval"] is None
    assert at_prevalence(found, 0.1)["ppv_at"]["interval"] is None
    assert found["lr_negative"]["interval"] is not None


def test_a_threshold_that_no_row_reaches_has_no_positive_likelihood_ratio() -> None:
    """As where all probabilities are equal: 0 of 20 against 0 of 80 says nothing."""
    positive = np.arange(100) < 20
    found = rates(positive, np.zeros(100, bool), np.arange(100), grouped=False)
    assert found["lr_positive"] == {"value": None, "interval": None}
    low, high = found["lr_negative"]["interval"]
    value, step = (20.5 / 21) / (80.5 / 81), math.sqrt(1 / 20.5 - 1 / 21 + 1 / 80.5 - 1 / 81)
    assert found["lr_negative"]["value"] == pytest.approx(value)
    assert (low, high) == pytest.approx((value * math.exp(-1.959964 * step), value * math.exp(1.959964 * step)))
    assert at_prevalence(found, 0.1)["ppv_at"] == {"value": None, "interval": None}
    assert at_prevalence(found, 0.1)["npv_at"]["value"] == pytest.approx(0.9, abs=0.01)


def test_predictive_values_at_the_same_prevalence_are_those_of_the_rows() -> None:
    positive, chance = scores(300)
    found = rates(positive, chance >= 0.4, np.arange(300), grouped=False)
    same = at_prevalence(found, float(positive.mean()))
    assert same["ppv_at"]["value"] == pytest.approx(found["ppv"]["value"])
    assert same["npv_at"]["value"] == pytest.approx(found["npv"]["value"])
    rare = at_prevalence(found, 0.01)
    sens, spec = found["sensitivity"]["value"], found["specificity"]["value"]
    assert rare["ppv_at"]["value"] == pytest.approx(sens * 0.01 / (sens * 0.01 + (1 - spec) * 0.99))
    assert rare["ppv_at"]["interval"][0] < rare["ppv_at"]["value"] < rare["ppv_at"]["interval"][1]


def test_grouped_shares_are_known_less_well() -> None:
    positive, chance = (np.repeat(part, 5) for part in scores(60))
    unit = np.arange(300) // 5
    alone = rates(positive, chance >= 0.4, np.arange(300), grouped=False)["sensitivity"]["interval"]
    together = rates(positive, chance >= 0.4, unit, grouped=True)["sensitivity"]["interval"]
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_intervals_of_sensitivities_of_groups_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        own = np.repeat(rng.beta(4, 1, 40), 6)
        positive = rng.random(240) < 0.5
        said = np.where(rng.random(240) < own, positive, ~positive)
        low, high = rates(positive, said, np.arange(240) // 6, grouped=True)["sensitivity"]["interval"]
        covered.append(low <= 0.8 <= high)
    assert 0.92 <= np.mean(covered) <= 0.99


def test_the_roc_curve_is_scikit_learns_and_lies_in_its_band() -> None:
    positive, chance = scores()
    roc = roc_band(positive, chance, np.arange(400), 0)
    false, true, _ = sk.roc_curve(positive, chance, drop_intermediate=False)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(sk.auc(false, true), abs=0.005)
    assert (roc.band[0] <= roc.y).all()
    assert (roc.y <= roc.band[1]).all()
    groups = roc_band(np.repeat(positive[:80], 5), np.repeat(chance[:80], 5), np.arange(400) // 5, 0).band
    assert np.mean(groups[1] - groups[0]) > 1.5 * np.mean(roc.band[1] - roc.band[0])


@pytest.mark.parametrize(("n", "step"), [(40, 1), (70, 1), (200, 1)])
def test_the_roc_curve_of_few_rows_is_not_above_scikit_learns(n: int, step: int) -> None:
    rng = np.random.default_rng(n)
    positive = np.arange(n) % 4 > 0
    chance = np.round(1 / (1 + np.exp(-(positive + rng.normal(size=n)))), step)  # many ties
    roc = roc_band(positive, chance, np.arange(n), 0)
    false, true, _ = sk.roc_curve(positive, chance, drop_intermediate=False)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(sk.auc(false, true), abs=0.003)
    inside = np.setdiff1d(np.arange(len(roc.x)), [0, len(roc.x) - 1])
    jumps = np.isin(np.round(roc.x, 9), np.round(false, 9))  # where it rises, the upper end counts
    plain = inside[~jumps[inside]]
    assert roc.y[plain] == pytest.approx(np.interp(roc.x[plain], false, true))


@pytest.mark.parametrize("rule", ["specificity >= 0.9", "specificity >= 1"])
def test_a_probability_of_1_can_be_below_the_threshold(rule: str) -> None:
    positive, chance = np.arange(20) < 10, np.where(np.arange(20) % 5 < 2, 1.0, 0.2)
    assert (chance < choose_threshold(positive, chance, rule))[~positive].all()


def test_the_precision_recall_curve_is_scikit_learns() -> None:
    positive, chance = scores()
    curve = precision_recall_band(positive, chance, np.arange(400), 0)
    precision, recall, _ = sk.precision_recall_curve(positive, chance)
    for place in (20, 50, 90):
        assert curve.y[place] == pytest.approx(precision[:-1][recall[:-1] >= curve.x[place] - 1e-12][-1])


def test_the_net_benefit_is_that_counted_by_hand() -> None:
    positive, chance = scores()
    curve = decision_band(positive, chance, np.arange(400), 0)
    share = float(positive.mean())
    everyone = all_positive(curve.x, share)
    for place in (0, 30, 98):
        bar = curve.x[place]
        said = chance >= bar
        expected = (said & positive).sum() / 400 - (said & ~positive).sum() / 400 * bar / (1 - bar)
        assert curve.y[place] == pytest.approx(expected)
        assert everyone[place] == pytest.approx(share - (1 - share) * bar / (1 - bar))


def test_the_decision_curve_is_drawn_where_it_can_be_read() -> None:
    """Treating all has a net benefit of -65 at the last threshold here, that of the model is below 0.5."""
    rng = np.random.default_rng(0)
    positive = rng.random(300) < 0.4
    chance = 1 / (1 + np.exp(-(2 * positive - 1 + rng.normal(size=300))))
    assert all_positive(decision_band(positive, chance, np.arange(300), 0).x, positive.mean()).min() < -5
    figure = _figures("yes", positive, _curves(positive, chance, np.arange(300), 0))[-1]
    assert figure.caption.startswith("Decision curve")
    ticks = [float(text.replace("\u2212", "-")) for text in re.findall(r">([\u2212-]?\d+\.?\d*)</text>", figure.svg)]
    assert min(ticks) > -0.5
    assert max(ticks) <= 1
