"""The statistics beneath the judges, against independent computations and exact laws."""

import math

import numpy as np
import pytest
from scipy import special, stats

from theorysim.errors import InputError
from theorysim.verify import (
    Case,
    Discrete,
    ProbabilityBound,
    Tabulated,
    extrapolation,
    intervals,
    laws,
    primitive,
    rounding,
    transition,
)
from theorysim.verify.judges._evidence import Evidence, decide


def test_pivots_agree_with_scipy():
    x = np.array([-np.inf, -9.0, 0.3, 12.0, np.inf])
    p = primitive.pivot_p_values(x, np.full(5, -np.inf), 11)
    np.testing.assert_allclose(p.verified, stats.t.sf(x, 11))
    p = primitive.pivot_p_values(np.full(5, np.inf), x, 11)
    np.testing.assert_allclose(p.refuted, stats.t.sf(x, 11))
    assert primitive.t_quantile(2e-4, 54.28) == pytest.approx(stats.t.isf(2e-4, 54.28))


def test_moments_and_tests_of_a_mean_agree_with_scipy():
    values = np.random.default_rng(7).gamma(2.0, size=(3, 7))
    sample = primitive.moments(values)
    np.testing.assert_allclose(sample.se, stats.sem(values, axis=-1))
    np.testing.assert_allclose(sample.skewness, stats.skew(values, axis=-1) * (6 / 7) ** 1.5)  # over the sd with S - 1
    found = primitive.mean_test(values, 1.8, math.inf, 0.01)
    for side, p in (("greater", found.p.verified), ("less", found.p.refuted)):
        np.testing.assert_allclose(p, stats.ttest_1samp(values, 1.8, axis=-1, alternative=side).pvalue)


@pytest.mark.parametrize("x", [0.0, 0.3, 2.0])
def test_refuted_counts_both_tails(x):
    """P(|X - c| >= x) for a mean at the edge of the region c -+ h, h half a standard error."""
    p = primitive.p_values(1 + x, 1.0, 12, 0.5, 1.5).refuted
    assert p == pytest.approx(stats.t.sf(x - 0.5, 12) + stats.t.cdf(-x - 0.5, 12))


def test_settings_are_decided_together():
    """Verified by the worst, refuted by the best p-value times their number."""

    def decided(p_verified, p_refuted):
        region = (0.5, 1.5)
        found = [Evidence("x", 1.0, 1.0, region, region, *p) for p in zip(p_verified, p_refuted, strict=True)]
        return decide(found, "limit", 0.01)

    some = decided([1e-5, 1e-5, 0.02, 1e-5], [0.9, 0.9, 0.004, 0.9])
    assert (some.status, some.p_verified, some.p_refuted) == ("inconclusive", 0.02, pytest.approx(0.016))
    assert decided([1e-5, 1e-5, 0.02, 1e-5], [0.9, 0.9, 0.002, 0.9]).status == "refuted"
    assert decided([1e-5, 1e-5, 0.008, 1e-5], [0.9] * 4).status == "verified"


@pytest.mark.parametrize("sense", ["<=", ">="])
def test_bounds_in_probability_are_binomial_tests(sense):
    observed = np.where(np.arange(100) < 12, 1.0, -1.0) * (1 if sense == "<=" else -1)
    found = ProbabilityBound(delta=0.05, tolerance=0.5, sense=sense)([Case("x", observed, np.zeros(100))])
    assert found.p_verified == pytest.approx(stats.binomtest(12, 100, 0.075, "less").pvalue)
    assert found.p_refuted == pytest.approx(stats.binomtest(12, 100, 0.075, "greater").pvalue)


def test_never_verified_and_refuted_at_once():
    rng = np.random.default_rng(0)
    p = primitive.p_values(rng.normal(0, 3, 10_000), rng.uniform(0, 2, 10_000), rng.integers(1, 50, 10_000), -1.0, 1.0)
    assert not np.any((p.verified <= 0.4) & (p.refuted <= 0.4))


def test_hall_reduces_to_student_without_skewness():
    values = np.array([-2.0, -1, 0, 1, 2])
    sample = primitive.moments(values)
    assert primitive.hall_pivot(sample, 0.7) == pytest.approx(primitive.pivot(sample.mean, sample.se, 0.7))
    np.testing.assert_allclose(
        primitive.hall_limits(sample, 0.01), primitive.interval(sample.mean, sample.se, 4, 0.01), rtol=1e-9
    )


def test_hall_limits_invert_the_pivot():
    rng = np.random.default_rng(1)
    sample = primitive.moments(rng.exponential(size=(50, 40)))
    for limit, quantile in zip(primitive.hall_limits(sample, 0.01), (1, -1), strict=True):
        expected = quantile * stats.t.isf(0.01, 39)
        np.testing.assert_allclose(primitive.hall_pivot(sample, limit), expected, rtol=1e-9)


def test_ratio_of_expectations():
    rng = np.random.default_rng(2)
    a, b = rng.gamma(11, size=(2, 20_000, 12))
    test = primitive.ratio_test(a, b, -math.inf, 1.0, 0.01)
    # one-sided errors of the linear statistic at nominal .01; 4 s.e.
    assert np.mean(test.p.verified <= 0.01) == pytest.approx(0.01, abs=0.003)
    assert np.mean(test.p.refuted <= 0.01) == pytest.approx(0.01, abs=0.003)
    # the Fieller limits are where the linear statistic reaches the quantile
    for end in (test.lower[0], test.upper[0]):
        d = a[0] - end * b[0]
        assert abs(d.mean() / (d.std(ddof=1) / math.sqrt(12))) == pytest.approx(stats.t.isf(0.01, 11))
    constant = primitive.ratio_test(a[0], np.full(12, 2.0), 0.9, 1.1, 0.01)
    plain = primitive.mean_test(a[0], 1.8, 2.2, 0.01)
    np.testing.assert_allclose(constant.p, plain.p)
    assert constant.lower * 2 == pytest.approx(plain.lower)


def test_trimmed_mean():
    values = np.arange(10.0) ** 2
    mean, se, df = primitive.trimmed_mean(values)
    assert mean == pytest.approx(stats.trim_mean(values, 0.2))
    winsorised = np.asarray(stats.mstats.winsorize(values, (0.2, 0.2)))
    assert se == pytest.approx(winsorised.std(ddof=1) * math.sqrt(9 / (6 * 5)))
    assert df == 5


def test_batch_means():
    series = np.arange(100.0)
    found = primitive.batch_means(series, 10)
    np.testing.assert_allclose(found.values, np.arange(10) * 10 + 4.5)
    assert not found.independent
    assert primitive.batch_means(np.random.default_rng(3).standard_normal(2000)).independent
    with pytest.raises(InputError, match="batches"):
        primitive.batch_means(series, 200)


def test_holm():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_array_equal(intervals.holm(p, 0.05), [True, False, False, True])
    reports = np.random.default_rng(4).uniform(size=(4000, 50))
    assert intervals.holm(reports).any(1).mean() <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 4000)


def test_median():
    rng = np.random.default_rng(5)
    values = rng.standard_normal(64)
    test = intervals.median_test(values, -math.inf, 0.4, 2e-4)
    wins = int(np.sum(values < 0.4))
    assert test.p.verified == pytest.approx(stats.binomtest(wins, 64, alternative="greater").pvalue)
    assert (test.lower, test.upper) == (np.sort(values)[17], np.sort(values)[46])
    two_sided = intervals.median_test(values, -0.9, 0.9, 2e-4)
    assert (two_sided.p.verified <= 2e-4) == (two_sided.lower > -0.9 and two_sided.upper < 0.9)


def test_curve_crossing_and_isotonic_location():
    levels = np.linspace(0, 1, 41)
    trials = np.full(41, 1e6)

    def curve(slope, centre):
        return np.round(trials * special.expit(slope * (levels - centre)))

    small = transition.logistic_location(levels, curve(8, 0.4), trials)
    large = transition.logistic_location(levels, curve(24, 0.45), trials)
    assert transition.curve_crossing(small, large).location == pytest.approx((24 * 0.45 - 8 * 0.4) / 16, abs=1e-4)
    assert math.isnan(transition.curve_crossing(small, small).location)
    assert transition.isotonic_location(levels, curve(8, 0.4), trials) == pytest.approx(0.4, abs=1e-3)
    assert transition.isotonic_location(levels, trials - curve(8, 0.4), trials) == pytest.approx(0.4, abs=1e-3)
    assert math.isnan(transition.isotonic_location(levels, curve(8, 2.0), trials))


def test_infinitesimal_jackknife_agrees_with_deleting_seeds():
    rng = np.random.default_rng(6)
    levels = np.linspace(-2, 2, 9)
    outcomes = (levels > rng.logistic(size=(100, 1))).astype(float)
    total, trials = outcomes.sum(0), np.full(9, 100.0)
    fit = transition.logistic_location(levels, total, trials, outcomes)
    left = [transition.logistic_location(levels, total - out, trials - 1).location for out in outcomes]
    assert fit.se == pytest.approx(math.sqrt(99 * np.var(left)), rel=0.05)
    assert fit.se > 1.3 * transition.logistic_location(levels, total, trials).se


def test_skewed_curves_need_the_quadratic_term():
    levels = np.linspace(-2, 2, 9)
    trials = np.full(9, 1e5)
    fit = transition.logistic_location(levels, np.round(trials * -np.expm1(-np.exp(levels))), trials)
    assert fit.quadratic
    assert fit.location == pytest.approx(math.log(math.log(2)), abs=0.02)


def test_separated_data_have_no_location():
    levels = np.linspace(0, 1, 9)
    fit = transition.logistic_location(levels, 50.0 * (levels > 0.5), np.full(9, 50.0))
    assert math.isnan(fit.location)


def test_rounding_floor_stands_above_true_errors():
    rng = np.random.default_rng(7)
    assert rounding.gamma(1000) == pytest.approx(1000 * 2.0**-53, rel=1e-9)
    worst = 0.0
    for _ in range(200):
        x = rng.standard_normal(64)
        tried = rounding.jittered(x, rng)
        single = np.array([np.sum(row.astype(np.float32) ** 3, dtype=np.float32) for row in tried])
        double = np.array([np.sum(row**3) for row in tried])
        exact = float(np.sum(x.astype(np.longdouble) ** 3))
        floor = rounding.rounding_floor(single, double, abs(exact))
        worst = max(worst, abs(np.sum(x**3) - exact) / abs(exact) / floor)
    assert worst < 1


def test_shared_seeds_need_the_functional_of_each_seed():
    """At correlation .8 the formula for independent sizes is off by about a factor of 2."""
    rng = np.random.default_rng(8)
    x = tuple(np.log([100.0, 200, 400, 800]))
    model = extrapolation.limit_models(x, (1.0,))[1]
    common, own = rng.standard_normal((20_000, 32, 1)), rng.standard_normal((20_000, 32, 4))
    values = math.sqrt(0.8) * common + math.sqrt(0.2) * own
    shared = extrapolation.shared_seeds(model, values)
    true = shared.estimate.std()
    assert np.median(shared.se) == pytest.approx(true, rel=0.03)
    variances = values.var(1, ddof=1) / 32
    independent = extrapolation.independent_sizes(model, values.mean(1), variances, np.full(4, 32.0))
    assert not 0.7 < np.median(independent.se) / true < 1.4
    # lack of fit is uniform under the model: 4 s.e. of its lower 1 %
    assert np.mean(shared.lack_of_fit < 0.01) == pytest.approx(0.01, abs=0.003)


def test_amplification_of_the_declared_models():
    """s.e. of the limit over that of the largest size (100 to 800), and of slopes over a mean's relative s.e."""
    sizes = np.array([100.0, 200, 400, 800])
    x = tuple(np.log(sizes))

    def amplification(model):
        return math.sqrt(np.sum(model.weights**2 / sizes) * sizes[-1])

    for orders, next_orders, expected in (
        ((1.0,), None, (1.5, 2.0)),
        ((1.0,), (1.5,), (1.5, 2.5)),
        ((0.5,), None, (2.8, 6.9)),
    ):
        found = [amplification(model) for model in extrapolation.limit_models(x, orders, next_orders)]
        np.testing.assert_allclose(found, expected, atol=0.05)
    doublings = tuple(np.log(64 * 2.0 ** np.arange(8)))
    power = [family.members[0] for family in extrapolation.rate_models(doublings, None)]
    np.testing.assert_allclose([np.linalg.norm(m.weights) for m in power], [0.22, 0.65], atol=0.006)
    corrected = [family.members[0] for family in extrapolation.rate_models(doublings, (0.5,))]
    assert max(np.linalg.norm(m.weights) for m in corrected) == pytest.approx(1.8, abs=0.05)


def test_log_of_a_mean():
    """cv = 1: bias -.0625 at 8 seeds without correction, about -.02 with it."""
    rng = np.random.default_rng(9)
    values = rng.exponential(size=(100_000, 8))
    means, variances = values.mean(1), values.var(1, ddof=1) / 8
    assert np.log(means).mean() == pytest.approx(-0.0625, abs=0.005)
    assert abs(extrapolation.log_means(means, variances).value.mean()) < 0.025
    pseudo = extrapolation.log_mean_pseudovalues(values[:20_000, :, None])
    assert abs(pseudo.mean()) < 0.02


@pytest.mark.parametrize("ratio", [1.3, 2.0, 10.0])
def test_richardson_removes_a_declared_order_exactly(ratio):
    n = 5 * ratio ** np.arange(5)
    x = np.log(n)
    found = extrapolation.richardson(3 - 2 / n, extrapolation.limit_gauges(x, (1.0,)), np.array([2.0]))
    np.testing.assert_allclose((found.lower, found.upper), (3, 3), rtol=1e-12)
    uneven = np.log(np.array([1e4, 3e4, 1e5, 3e5, 1e6]))
    slopes = extrapolation.local_slopes(uneven, -2 * uneven + 4 * np.exp(-0.5 * uneven))
    found = extrapolation.richardson(slopes, extrapolation.slope_gauges(uneven, (0.5,)), np.sqrt([2.0]))
    np.testing.assert_allclose((found.lower, found.upper), (-2, -2), rtol=1e-10)


def test_laws():
    rng = np.random.default_rng(10)
    draws = rng.standard_normal(1000)
    assert laws.cdf_distance(draws, stats.norm()) == pytest.approx(stats.kstest(draws, "norm").statistic)
    points = np.arange(4.0)
    law = Discrete(points, np.array([0.1, 0.2, 0.3, 0.4]))
    assert law.cdf(np.array([-1.0, 0.0, 0.5, 3.0])) == pytest.approx([0, 0.1, 0.1, 1.0])
    assert (law.mean(), law.std()) == pytest.approx((2.0, 1.0))
    np.testing.assert_array_equal(law.ppf([0.05, 0.1, 0.11, 1.0]), [0, 0, 1, 3])
    uniform = laws.randomised_pit(rng.choice(points, 20_000, p=law.probabilities), law, rng)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    triangle = Tabulated(np.linspace(0, 1, 1001), np.linspace(0, 1, 1001) ** 2)
    assert (triangle.mean(), triangle.std()) == pytest.approx((2 / 3, math.sqrt(1 / 18)), abs=1e-6)
    with pytest.raises(InputError, match="sum to 1"):
        Discrete(points, np.full(4, 0.3))
    with pytest.raises(InputError, match="from 0 to 1"):
        Tabulated(points, points / 4)


def test_design_effect():
    rng = np.random.default_rng(11)
    assert laws.design_effect(rng.standard_normal((400, 20))) < 1.4
    # indicator correlations are below the ICC .2: at the median 2/pi asin(.2), deff = 1 + 19 * .128
    between = math.sqrt(0.2) * rng.standard_normal((4000, 1))
    clustered = between + math.sqrt(0.8) * rng.standard_normal((4000, 20))
    assert laws.design_effect(clustered) == pytest.approx(1 + 19 * 2 / math.pi * math.asin(0.2), rel=0.1)


def test_merged_bins():
    index = laws.merged_bins(np.array([5.0, 16, 30, 10, 10, 10, 3]), 20)
    np.testing.assert_array_equal(index, [0, 0, 1, 2, 2, 2, 2])
