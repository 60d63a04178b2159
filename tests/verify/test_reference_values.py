"""The statistics reproduce reference values computed apart from this code, to the digits in which they are given."""

import math

import numpy as np
import pytest
from scipy import stats

from theorysim.verify import extrapolation, intervals, primitive, transition
from theorysim.verify.judges import law

ALPHA = 2e-4


@pytest.mark.parametrize(
    ("estimate", "se", "df", "lo", "hi", "p_v", "p_r"),
    [
        (1.012, 0.004, 31, 0.95, 1.05, 5.376e-11, 1 - 5e-11),
        (1.085, 0.006, 31, 0.95, 1.05, 0.999999, 9.866e-7),
        (1.04, 0.004, 31, 0.95, 1.05, 0.0089601, None),
        (0.3, 0.1, 31, -math.inf, 0.0, 0.99736, 0.0026443),
    ],
)
def test_primitive(estimate, se, df, lo, hi, p_v, p_r):
    p = primitive.p_values(estimate, se, df, lo, hi)
    assert p.verified == pytest.approx(p_v, rel=2e-4 if p_v < 1e-3 else 1e-5)
    if p_r is not None:
        assert p.refuted == pytest.approx(p_r, rel=2e-4)


def test_primitive_is_symmetric_and_bias_shrinks_and_grows_the_region():
    above, below = primitive.p_values(1.04, 0.01, 20, 0.95, 1.05), primitive.p_values(0.96, 0.01, 20, 0.95, 1.05)
    np.testing.assert_allclose(above, below, rtol=1e-12)
    biased = primitive.p_values(1.04, 0.01, 20, 0.95, 1.05, 0.02)
    np.testing.assert_allclose(biased.verified, primitive.p_values(1.04, 0.01, 20, 0.97, 1.03).verified)
    np.testing.assert_allclose(biased.refuted, primitive.p_values(1.04, 0.01, 20, 0.93, 1.07).refuted)


def test_interval_says_the_same_as_the_p_value():
    lower, upper = primitive.interval(1.012, 0.004, 31, ALPHA)
    assert primitive.p_values(1.012, 0.004, 31, lower, 2.0).verified == pytest.approx(ALPHA, rel=1e-9)
    assert primitive.p_values(1.012, 0.004, 31, 0.0, upper).verified == pytest.approx(ALPHA, rel=1e-9)


@pytest.mark.parametrize(
    ("seeds", "t", "k_v", "k_r99", "k_r95"),
    [
        (6, 8.36, 15.5, 14.9, 12.7),
        (8, 6.31, 11.3, 10.8, 9.37),
        (12, 5.00, 8.74, 8.36, 7.32),
        (16, 4.53, 7.84, 7.51, 6.60),
        (24, 4.14, 7.13, 6.83, 6.02),
        (32, 3.97, 6.83, 6.55, 5.78),
        (64, 3.74, 6.44, 6.18, 5.46),
        (128, 3.64, 6.27, 6.02, 5.32),
        (math.inf, 3.54, 6.12, 5.87, 5.18),
    ],
)
def test_design_factors(seeds, t, k_v, k_r99, k_r95):
    # half a unit of the last digit given
    for found, expected in zip(primitive.design_factors(seeds, ALPHA), (t, k_v, k_r99, k_r95), strict=True):
        assert found == pytest.approx(expected, abs=0.051 if expected > 10 else 0.0051)


def test_design_factors_are_noncentral_t_quantiles():
    factors = primitive.design_factors(16, ALPHA)
    assert stats.nct.sf(factors.t_quantile, 15, factors.refute_95) == pytest.approx(0.95, abs=1e-4)


@pytest.mark.parametrize(
    ("spread", "expected"), [(0.25, (8, 8)), (0.5, (16, 13)), (1, (44, 34)), (2, (156, 114)), (4, (605, 437))]
)
def test_seeds_for(spread, expected):
    assert primitive.seeds_for(spread) == expected


def test_hull():
    x = tuple(np.log([100.0, 200.0, 400.0, 800.0]))
    means = np.array([1.1552, 1.0661, 1.0246, 1.0153])
    variances = np.array([0.0099, 0.0070, 0.0049, 0.0035]) ** 2
    seeds = np.full(4, 32.0)
    first, second = extrapolation.limit_models(x, (1.0,))
    np.testing.assert_allclose(first.weights, [0, -0.384615, 0.153846, 1.230769], atol=5e-7)
    np.testing.assert_allclose(second.weights, [0.131313, -0.585859, -0.161616, 1.616162], atol=5e-7)
    fits = [extrapolation.independent_sizes(model, means, variances, seeds) for model in (first, second)]
    for fit, expected in zip(
        fits, [(0.997192, 0.005135, 54.28, 0.1995), (1.002406, 0.007151, 61.87, 0.3406)], strict=True
    ):
        assert fit.estimate == pytest.approx(expected[0], abs=5e-7)
        assert fit.se == pytest.approx(expected[1], abs=5e-7)
        assert fit.df == pytest.approx(expected[2], abs=5e-3)
        assert fit.lack_of_fit == pytest.approx(expected[3], abs=5e-5)
    p = [primitive.p_values(fit.estimate, fit.se, fit.df, 0.95, 1.05).verified for fit in fits]
    assert p[0] == pytest.approx(5.9e-13, rel=0.01)
    assert p[1] == pytest.approx(4.256e-9, rel=2e-4)
    assert extrapolation.hull(fits, 0.95, 1.05, ALPHA).p.verified == pytest.approx(4.256e-9, rel=2e-4)


def test_deterministic_rate():
    n = 2.0 ** np.arange(4, 9)
    x, orders = np.log(n), (0.5, 1.0, 2.0)
    slopes = -extrapolation.local_slopes(x, np.log(2 * n**-1.5 * (1 + 1.3 / n - 0.7 / n**2)))
    np.testing.assert_allclose(slopes, [1.552545, 1.527733, 1.514252, 1.507225], atol=5e-7)
    found = extrapolation.richardson(slopes, extrapolation.slope_gauges(x, orders), 2.0 ** np.array(orders))
    np.testing.assert_allclose(found.extrapolated, [1.490261, 1.500198, 1.504883], atol=5e-7)
    np.testing.assert_allclose((found.lower, found.upper), (1.473152, 1.521992), atol=5e-7)
    assert found.extrapolated.min() - found.lower == pytest.approx(0.017109, abs=5e-7)


def test_logistic_location():
    levels = np.linspace(0.6, 0.8, 9)
    successes = np.array([1.0, 4, 9, 16, 31, 52, 74, 88, 96])
    fit = transition.logistic_location(levels, successes, np.full(9, 100.0))
    assert not fit.quadratic
    assert fit.location == pytest.approx(0.7204968, abs=5e-8)
    assert fit.se == pytest.approx(0.0027027, abs=5e-8)
    assert fit.slope == pytest.approx(35.916, abs=5e-4)


def test_bands_and_limits():
    np.testing.assert_allclose(intervals.dkw_band([1000, 16_000], ALPHA), [0.067861, 0.016965], atol=5e-7)
    lower, upper = intervals.clopper_pearson([0, 3], [8513, 1000], ALPHA)
    np.testing.assert_allclose(lower, [0, 0.00010930], atol=5e-9)
    np.testing.assert_allclose(upper, [1.000e-3, 0.0149773], atol=5e-7)
    assert intervals.clopper_pearson(1000, 1000, ALPHA)[1] == 1
    assert [intervals.draws_without_violation(m, ALPHA) for m in (1e-2, 1e-3, 1e-4)] == [848, 8513, 85168]
    assert [intervals.median_rank(n, ALPHA) for n in (12, 13, 32, 64, 128)] == [0, 1, 6, 18, 44]


def test_chi_square_equivalence():
    p_v, _ = law.chi_square_p_values(np.asarray(9.3), 12, 10_000, 0.1)
    assert p_v == pytest.approx(2.75e-15, rel=2e-3)


def test_hall():
    data = np.array([0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 0.9, 1.1, 1.3, 1.4, 1.8, 2.0, 2.4, 3.1, 4.0, 6.5])
    sample = primitive.moments(data)
    assert sample.mean == 1.6875
    assert sample.se * 4 == pytest.approx(1.680427, abs=5e-7)
    assert sample.skewness == pytest.approx(1.483596, abs=5e-7)
    for mu, t, hall in ((1.0, 1.636489, 2.051737), (3.0, -3.124207, -2.011019)):
        assert primitive.pivot(sample.mean, sample.se, mu) == pytest.approx(t, abs=5e-7)
        assert primitive.hall_pivot(sample, mu) == pytest.approx(hall, abs=5e-7)
    assert stats.t.sf(primitive.hall_pivot(sample, 1.0), 15) == pytest.approx(0.029040, abs=5e-7)
    lower, upper = primitive.hall_limits(sample, 0.029040)
    assert lower == pytest.approx(1.0, abs=1e-4)
    assert upper > 3.0


def test_mixture_sequence():
    half = intervals.mixture_half_width([936, 117], 936, ALPHA)
    np.testing.assert_allclose(half, [0.144799, 0.454267], atol=5e-7)
    # the fixed half-width beside it, given from the normal quantile rounded to 3.54
    assert stats.norm.isf(ALPHA) / math.sqrt(936) == pytest.approx(0.115709, abs=3e-6)


def test_looks_run_from_an_eighth_to_twice_the_planned_number():
    looks = intervals.look_sizes(800)
    assert len(looks) == 9
    assert (looks[0], looks[-1]) == (100, 1600)
