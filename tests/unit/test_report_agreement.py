"""Agreement of numbers, against statsmodels and a simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import statsmodels.api as sm
from reports import regression_run
from scipy import stats
from sklearn import metrics as sk

from deeptune.report import write_report
from deeptune.report.agreement import _quantile_table, calibration_line, error_by_truth, limits_of_agreement


@pytest.fixture
def numbers():
    rng = np.random.default_rng(0)
    truth = rng.normal(50, 10, 120)
    return truth, 15 + 0.7 * truth + rng.normal(0, 3, 120) * (truth / 50)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_calibration_line_is_that_of_statsmodels(numbers, grouped):
    truth, prediction = numbers
    unit = np.arange(120) // 6 if grouped else np.arange(120)
    model = sm.OLS(truth, sm.add_constant(prediction))
    theirs = model.fit(cov_type="cluster", cov_kwds={"groups": unit}, use_t=True)
    ours = calibration_line(truth, prediction, unit)
    assert ours is not None
    assert [one.value for one in ours] == pytest.approx(theirs.params)
    assert np.array([one.interval for one in ours]) == pytest.approx(theirs.conf_int())


@pytest.mark.parametrize(("middle", "spread"), [(1e4, 1.0), (5e6, 1e3), (1.7e9, 1e5)])
def test_the_calibration_line_of_numbers_that_are_large_beside_their_spread_has_an_interval(middle, spread):
    rng = np.random.default_rng(3)
    standard = rng.normal(size=120)
    truth = middle + spread * (0.9 * standard + rng.normal(0, 0.3, 120))
    prediction = middle + spread * standard
    unit = np.arange(120) // 4
    theirs = sm.OLS((truth - middle) / spread, sm.add_constant(standard)).fit(
        cov_type="cluster", cov_kwds={"groups": unit}, use_t=True
    )
    ours = calibration_line(truth, prediction, unit)
    assert ours is not None
    assert ours[1].value == pytest.approx(theirs.params[1], rel=1e-6)
    assert ours[1].interval == pytest.approx(theirs.conf_int()[1], rel=1e-6)


def test_bias_and_limits_are_those_of_the_t_test_and_the_paper(numbers):
    truth, prediction = numbers
    difference = prediction - truth
    limits = limits_of_agreement(truth, prediction, np.arange(120), grouped=False)
    low, high = stats.ttest_1samp(difference, 0).confidence_interval()
    assert limits.bias.value == pytest.approx(difference.mean())
    assert limits.bias.interval == pytest.approx((low, high))
    deviation = difference.std(ddof=1)
    assert limits.upper.value == pytest.approx(difference.mean() + 1.96 * deviation)
    # Bland and Altman give the error of a limit as about 1.71 of that of the mean.
    half = (limits.upper.interval[1] - limits.upper.interval[0]) / 2
    assert half == pytest.approx(1.71 * (high - low) / 2, rel=0.01)


def test_the_interval_of_a_limit_holds_it_in_95_of_100_samples():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        truth = rng.normal(0, 5, 40)
        limits = limits_of_agreement(truth, truth + rng.normal(1, 2, 40), np.arange(40), grouped=False)
        low, high = limits.upper.interval
        held += low <= 1 + 1.96 * 2 <= high
    assert 930 <= held <= 970


def test_groups_give_limits_without_intervals_and_a_wider_bias():
    rng = np.random.default_rng(2)
    unit = np.repeat(np.arange(20), 10)
    truth = rng.normal(0, 1, 200)
    prediction = truth + rng.normal(0, 1, 20)[unit]
    alone = limits_of_agreement(truth, prediction, np.arange(200), grouped=False).bias.interval
    together = limits_of_agreement(truth, prediction, unit, grouped=True)
    assert together.upper.interval is None
    assert together.bias.interval[1] - together.bias.interval[0] > 2 * (alone[1] - alone[0])


def test_errors_by_quantile_hold_each_row_once(numbers):
    truth, prediction = numbers
    found = error_by_truth(truth, prediction)
    assert [one["n"] for one in found] == [24] * 5
    lowest = np.argsort(truth)[:24]
    assert found[0]["mae"] == pytest.approx(sk.mean_absolute_error(truth[lowest], prediction[lowest]))
    assert found[0]["rmse"] == pytest.approx(sk.root_mean_squared_error(truth[lowest], prediction[lowest]))
    assert found[0]["bias"] > 0 > found[-1]["bias"]  # regression to the mean
    few = error_by_truth(np.repeat([1.0, 2.0], 30), np.zeros(60))
    assert sum(one["n"] for one in few) == 60
    assert len(error_by_truth(np.ones(60), np.zeros(60))) == 1


def test_equal_predictions_have_no_line():
    assert calibration_line(np.arange(20.0), np.ones(20), np.arange(20)) is None


def test_the_report_of_a_regression_has_the_section(tmp_path):
    regression_run(tmp_path)
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Agreement with the truth" in page
    assert "Bland–Altman" in page
    found = json.loads((tmp_path / "report.json").read_text())["sections"]["agreement"]["value"]
    assert found["calibration"]["slope"]["interval"][0] < found["calibration"]["slope"]["value"]
    assert sum(one["n"] for one in found["by_truth"]) > 50


def test_a_quantile_of_one_count_is_written_once():
    truth = np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], 20)
    table = _quantile_table("", error_by_truth(truth, truth + 0.1))
    assert [row[0] for row in table.rows] == ["0", "1", "2", "3", "4"]
    rows = _quantile_table("", error_by_truth(np.linspace(0, 8.5, 30), np.zeros(30))).rows
    assert rows[0][0].startswith("0 to ")
    assert rows[-1][0].endswith(" to 8.500")
