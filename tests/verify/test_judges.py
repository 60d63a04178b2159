"""Judges on toy claims with known truth: true ones are verified, false ones refuted, at the rates promised.

Rates use 80 to 400 repetitions with fixed seeds. A claim designed for power p is asked for at least p - 4 binomial
s.e.; an edge case at alpha = .01 may err at most .01 + 4 s.e. (each such test would fail by chance once in about 3e4
seeds).
"""

import math

import numpy as np
import pytest
from scipy import special, stats

from theorysim.errors import InputError
from theorysim.verify import (
    PMF,
    Bound,
    Case,
    Discrete,
    Equivalence,
    ExpectationBound,
    Identity,
    Law,
    Limit,
    Ordering,
    ProbabilityBound,
    Rate,
    Tabulated,
    Threshold,
)
from theorysim.verify.primitive import design_factors

ALPHA = 2e-4
REPETITIONS = 200
FEW = 80
"""Of judges that take milliseconds."""


def rate(judge, cases, status, repetitions=REPETITIONS, alpha=ALPHA):
    """Fraction of repetitions that end in `status`; `cases` draws fresh data."""
    return sum(judge(cases(), alpha).status == status for _ in range(repetitions)) / repetitions


def at_least(power, repetitions=REPETITIONS):
    return power - 4 * math.sqrt(power * (1 - power) / repetitions)


def at_most(level, repetitions=REPETITIONS):
    return level + 4 * math.sqrt(level * (1 - level) / repetitions)


def ends(found):
    """The interval of a judgement that has one."""
    assert found.interval is not None
    return found.interval


# --- equivalence ----------------------------------------------------------------------------------------------------


class TestEquivalence:
    seeds = 32

    def cases(self, rng, ratio, factor, settings=1):
        """Means 3 * ratio with se = tau/factor, prediction 3."""
        sd = 0.05 * 3 / factor * math.sqrt(self.seeds)
        return lambda: [Case(f"s{k}", 3 * ratio + sd * rng.standard_normal(self.seeds), 3.0) for k in range(settings)]

    @pytest.mark.parametrize("absolute", [False, True])
    def test_true_is_verified_and_two_tolerances_off_refuted(self, absolute):
        rng = np.random.default_rng(1)
        judge = Equivalence(tolerance=0.15 if absolute else 0.05, absolute=absolute)
        factors = design_factors(self.seeds)
        assert rate(judge, self.cases(rng, 1.0, factors.verify), "verified") >= at_least(0.99)
        assert rate(judge, self.cases(rng, 1.1, factors.refute_95), "refuted") >= at_least(0.95)

    @pytest.mark.parametrize("status", ["verified", "refuted"])
    def test_edge(self, status):
        rng = np.random.default_rng(2)
        assert rate(Equivalence(), self.cases(rng, 1.05, 8.0), status, 400, 0.01) <= at_most(0.01, 400)

    def test_several_settings(self):
        rng = np.random.default_rng(3)
        # design for power .99^(1/20): se = tau/7.5 leaves more than enough
        assert rate(Equivalence(), self.cases(rng, 1.0, 9.0, 20), "verified") >= at_least(0.99)
        worst = Equivalence()([*self.cases(rng, 1.0, 9.0, 3)(), *self.cases(rng, 1.2, 9.0, 1)()])
        assert worst.status == "refuted"
        assert worst.worst == "s0"
        assert worst.gates["settings"] == 4

    def test_components_are_settings(self):
        rng = np.random.default_rng(4)
        values = np.array([1.0, -2.0, 5.0]) * (1 + 0.02 * rng.standard_normal((64, 3)))
        assert Equivalence()([Case("x", values, np.array([1.0, -2.0, 5.0]))]).status == "verified"
        found = Equivalence()([Case("x", values, np.array([1.0, -2.4, 5.0]))])
        assert (found.status, found.worst) == ("refuted", "x[1]")
        assert found.estimate == pytest.approx(-2.0, abs=0.02)
        assert ends(found)[0] < -2.0 < ends(found)[1]

    def test_predictions_that_vary_over_seeds_are_a_ratio_of_expectations(self):
        rng = np.random.default_rng(5)
        scale = rng.uniform(0.5, 2.0, 200)
        observed = scale * (1 + 0.1 * rng.standard_normal(200))
        assert Equivalence()([Case("x", observed, scale)]).status == "verified"
        assert Equivalence()([Case("x", 1.15 * observed, scale)]).status == "refuted"
        turned = Equivalence()([Case("x", -observed, -scale)])
        straight = Equivalence()([Case("x", observed, scale)])
        assert turned.p_verified == pytest.approx(straight.p_verified)

    def test_interval_lies_inside_the_region_exactly_when_verified(self):
        rng = np.random.default_rng(6)
        for k in range(200):
            found = Equivalence()([Case("x", 1 + 0.01 * k / 20 + 0.05 * rng.standard_normal(16), 1.0)], 0.01)
            lo, hi = found.region or (math.nan, math.nan)
            inside = lo <= ends(found)[0] and ends(found)[1] <= hi
            assert inside == (found.status == "verified")

    def test_underpowered_says_how_many_seeds_would_decide(self):
        rng = np.random.default_rng(7)
        found = Equivalence()([Case("x", 1 + 0.2 * rng.standard_normal(32), 1.0)])
        assert found.status == "inconclusive"
        assert found.needed is not None and found.needed > 32
        assert found.resolution is not None and found.resolution > 0.1

    def test_median_survives_cauchy_tails(self):
        rng = np.random.default_rng(8)
        values = 1 + 0.01 * rng.standard_cauchy(200)
        assert Equivalence(functional="median")([Case("x", values, 1.0)]).status == "verified"
        assert Equivalence(functional="median")([Case("x", values, 1.1)]).status == "refuted"

    def test_skewed_data_need_seeds_and_a_moderate_skewness(self):
        rng = np.random.default_rng(9)
        judge = Equivalence(tolerance=0.2, skewed=True)
        assert "64 seeds" in judge([Case("x", rng.exponential(size=32), 1.0)]).reason
        assert "heavy tail" in judge([Case("x", rng.pareto(1.2, size=128), 5.0)]).reason
        draw = lambda mean: lambda: [Case("x", rng.exponential(size=2000), mean)]
        assert rate(judge, draw(1.0), "verified") >= at_least(0.99)
        assert rate(judge, draw(1.45), "refuted") >= at_least(0.99)
        # edge: E = 1 is the upper end of the region around 1/1.2
        edge = lambda: [Case("x", rng.exponential(size=256), 1 / 1.2)]
        assert rate(judge, edge, "verified", 400, 0.01) <= at_most(0.01, 400)

    def test_bias_shrinks_the_region(self):
        rng = np.random.default_rng(10)
        case = Case("x", 1 + 0.03 * rng.standard_normal(64), 1.0)
        assert Equivalence()([case]).status == "verified"
        assert Equivalence(bias=0.045)([case]).status == "inconclusive"

    @pytest.mark.parametrize(
        ("observed", "words"),
        [
            (np.array([1.0, np.nan, 1.0]), "not finite"),
            (np.array([1.0, np.inf, 1.0]), "not finite"),
            (np.ones(1), "standard error"),
            (np.zeros(0), "standard error"),
            (np.ones(16), "no spread"),
        ],
    )
    def test_data_that_cannot_be_judged(self, observed, words):
        found = Equivalence()([Case("x", observed, 1.0)])
        assert found.status == "inconclusive"
        assert words in found.reason
        assert Equivalence()([]).status == "inconclusive"

    def test_inadmissible_samples_are_left_out(self):
        rng = np.random.default_rng(11)
        values = np.concatenate([1 + 0.02 * rng.standard_normal(64), [np.nan] * 8])
        case = Case("x", values, 1.0, admissible=np.isfinite(values))
        assert Equivalence()([case]).samples == 64
        assert Equivalence()([case]).status == "verified"

    def test_shapes_and_fields_are_checked(self):
        with pytest.raises(InputError, match="broadcast"):
            Equivalence()([Case("x", np.ones((8, 3)), np.ones(4))])
        with pytest.raises(InputError, match="admissible"):
            Equivalence()([Case("x", np.ones(8), 1.0, admissible=np.ones(7, bool))])
        with pytest.raises(InputError, match="tolerance must be positive, got 0"):
            Equivalence(tolerance=0)


# --- identity -------------------------------------------------------------------------------------------------------


class TestIdentity:
    def cases(self, plant=0.0, inputs=150, **fields):
        x = np.random.default_rng(1).uniform(0.1, 3, (inputs, 2))
        return [Case("x", np.sin(2 * x), 2 * np.sin(x) * np.cos(x) * (1 + plant), **fields)]

    def test_true_and_planted(self):
        found = Identity()(self.cases())
        assert found.status == "verified"
        assert found.certified
        assert found.samples == 300
        assert Identity()(self.cases(1e-11)).status == "verified"
        assert Identity()(self.cases(1e-8)).status == "refuted"

    def test_needs_enough_inputs_that_stand_above_the_floor(self):
        assert Identity()(self.cases(inputs=10)).status == "inconclusive"
        floor = np.full((150, 1), 1e-9)
        assert Identity()(self.cases(1e-8, floor=floor)).status == "inconclusive"
        assert Identity(tolerance=1e-7)(self.cases(floor=floor)).status == "verified"

    def test_scale_is_the_natural_size_of_values_near_zero(self):
        case = Case("x", np.full(100, 1e-17), np.zeros(100))
        assert Identity()([case]).status == "refuted"
        assert Identity(scale=1.0)([case]).status == "verified"
        assert Identity(scale=lambda setting: np.ones(100))([case]).status == "verified"
        gradient = np.tile([1.0, 1e-17], (100, 1))
        assert Identity(scale="sample")([Case("x", gradient, np.array([1.0, 0.0]))]).status == "verified"

    def test_invalid_data(self):
        values = np.ones(200)
        values[3] = np.nan
        assert Identity()([Case("x", values, 1.0)]).status == "inconclusive"
        values[4] = 2.0
        assert Identity()([Case("x", values, 1.0)]).status == "refuted"
        assert Identity()([]).status == "inconclusive"
        assert Identity()([Case("x", np.full(200, np.inf), np.inf)]).status == "inconclusive"


# --- bounds ---------------------------------------------------------------------------------------------------------


class TestBound:
    def cases(self, draws=8513, components=30, constant=1.0, seed=1, **fields):
        """|mean| <= constant * root mean square."""
        x = np.random.default_rng(seed).standard_normal((draws, components, 2))
        return [Case("x", np.abs(x.mean(-1)), constant * np.sqrt(np.square(x).mean(-1)), **fields)]

    def test_true_bound(self):
        found = Bound()(self.cases())
        assert found.status == "verified"
        assert found.samples == 8513
        assert ends(found)[1] == pytest.approx(1e-3, rel=1e-3)
        assert 0.999 < found.gates["tightening"] <= 1
        assert found.gates["least slack/|rhs|"] >= 0

    def test_too_few_draws(self):
        found = Bound()(self.cases(8512))
        assert found.status == "inconclusive"
        assert found.needed == 8513
        assert Bound(exhaustive=True)(self.cases(3)).status == "verified"
        assert Bound(mass=1e-2)(self.cases(848)).status == "verified"

    def test_components_and_inadmissible_samples_are_no_draws(self):
        admissible = np.arange(8600) < 8500
        assert Bound()(self.cases(8600, admissible=admissible)).status == "inconclusive"

    def test_violations(self):
        found = Bound()(self.cases(constant=0.99))
        assert found.status == "refuted"
        assert found.certified
        assert found.p_refuted is None
        assert Bound(sense=">=")(self.cases()).status == "refuted"

    def test_a_violation_of_mass_is_found_at_the_promised_rate(self):
        rng = np.random.default_rng(2)

        def draw():
            return [Case("x", (rng.random(8513) < 5.4e-4).astype(float), 0.5)]

        assert rate(Bound(), draw, "refuted", 400) >= at_least(0.99, 400)

    def test_violating_mass_at_the_edge_is_seldom_verified(self):
        rng = np.random.default_rng(3)
        draw = lambda: [Case("x", (rng.random(459) < 0.01).astype(float), 0.5)]
        assert rate(Bound(mass=0.01), draw, "verified", 400, 0.01) <= at_most(0.01, 400)

    def test_rounding_is_no_counterexample(self):
        lhs = np.ones(9000)
        lhs[7] += 1e-10
        unsure = Bound()([Case("x", lhs, 1.0)])
        assert (unsure.status, unsure.reason) == ("inconclusive", "violation not certified")
        one = np.ones((), np.longdouble)
        exact = Bound()([Case("x", lhs, 1.0, replay=lambda seed: (one, one))])
        assert exact.status == "verified"
        assert exact.gates["cleared in higher precision"] == 1
        seen = []

        def replay(seed):
            seen.append(seed)
            return one + one * np.longdouble(1e-10), one

        assert Bound()([Case("x", lhs, 1.0, replay=replay)]).status == "refuted"
        assert seen == [7]

    def test_replay_sees_the_sample_index_before_masking(self):
        lhs = np.zeros(9000)
        lhs[[2, 50]] = 2.0
        admissible = np.arange(9000) >= 10
        seen = []

        def replay(seed):
            seen.append(seed)
            return np.asarray(2, np.longdouble), np.asarray(1, np.longdouble)

        assert Bound()([Case("x", lhs, 1.0, admissible=admissible, replay=replay)]).status == "refuted"
        assert seen == [50]

    def test_infinities_decide_and_nan_does_not(self):
        lhs, rhs = np.zeros((9000, 2)), np.ones((9000, 2))
        rhs[5, 0] = np.inf
        assert Bound()([Case("x", lhs, rhs)]).status == "verified"
        lhs[6, 1] = np.inf
        assert Bound()([Case("x", lhs, rhs)]).status == "refuted"
        for value in (np.nan, np.inf):
            lhs, rhs = np.zeros(9000), np.ones(9000)
            lhs[3], rhs[3] = value, value
            found = Bound()([Case("x", lhs, rhs)])
            assert found.status == "inconclusive"
            assert "invalid data" in found.reason
            assert found.p_verified == 1
        assert Bound()([]).status == "inconclusive"
        assert Bound(exhaustive=True)([Case("x", np.zeros((0, 3)), 1.0)]).status == "inconclusive"

    def test_single_precision_alone_is_judged_by_its_own_rounding(self):
        lhs = np.full(9000, np.float32(1) + np.finfo(np.float32).eps)
        assert Bound()([Case("x", lhs, np.float32(1))]).status == "verified"

    def test_large_arrays_are_fast(self):
        found = Bound()([Case("x", np.zeros((8513, 300)), np.ones(300))])
        assert found.gates["inequalities"] == 8513 * 300


def test_expectation_bound():
    rng = np.random.default_rng(1)
    se = 0.05 / design_factors(32).verify
    draw = lambda mean: lambda: [Case("x", mean + se * math.sqrt(32) * rng.standard_normal(32), 1.0)]
    judge = ExpectationBound(tolerance=0.05)
    assert rate(judge, draw(1.0), "verified") >= at_least(0.99)
    assert rate(judge, draw(1.1), "refuted") >= at_least(0.99)
    assert rate(judge, draw(1.05), "verified", 400, 0.01) <= at_most(0.01, 400)
    assert judge(draw(0.1)()).status == "verified"
    assert ExpectationBound(sense=">=")(draw(0.1)()).status == "refuted"
    strict = ExpectationBound(tolerance=0.0)
    assert rate(strict, draw(1.0), "inconclusive") >= at_least(0.99)
    # at most b + tolerance |b| where b is negative
    assert judge([Case("x", -0.97 + 0.01 * rng.standard_normal(64), -1.0)]).status == "verified"
    assert judge([Case("x", -0.9 + 0.01 * rng.standard_normal(64), -1.0)]).status == "refuted"


def test_probability_bound():
    rng = np.random.default_rng(1)
    judge = ProbabilityBound(delta=0.05, tolerance=0.5)
    draw = lambda p: lambda: [Case("x", (rng.random(4000) < p).astype(float), 0.5)]
    assert rate(judge, draw(0.05), "verified") >= at_least(0.998)
    assert rate(judge, draw(0.12), "refuted") >= at_least(0.99)
    assert rate(judge, draw(0.075), "verified", 400, 0.01) <= at_most(0.01, 400)
    assert judge([Case("x", np.array([0.0, np.nan]), 0.5)]).status == "inconclusive"
    assert ProbabilityBound(sense=">=")([Case("x", np.full(4000, np.inf), 0.5)]).status == "verified"


# --- limit ----------------------------------------------------------------------------------------------------------

SIZES = np.array([100, 200, 400, 800])


def size_cases(rng, mean, sizes=SIZES, seeds=32, spread=0.56, predicted=1.0):
    """One case a size, independent seeds."""
    return lambda: [
        Case(f"n={n}", mean(n) + spread / math.sqrt(n) * rng.standard_normal(seeds), predicted, size=n) for n in sizes
    ]


class TestLimit:
    @pytest.mark.parametrize("second", [500, -1500])
    def test_known_order(self, second):
        rng = np.random.default_rng(1)
        mean = lambda theta: lambda n: theta + 10 / n + second / n**2
        assert rate(Limit(), size_cases(rng, mean(1.0)), "verified") >= at_least(0.998)
        assert rate(Limit(), size_cases(rng, mean(1.1)), "refuted") >= at_least(0.998)
        for status in ("verified", "refuted"):
            wrong = max(rate(Limit(), size_cases(rng, mean(t)), status, 300, 0.01) for t in (0.95, 1.05))
            assert wrong <= at_most(0.01, 300)

    def test_range_of_orders(self):
        rng = np.random.default_rng(2)
        cases = lambda theta: size_cases(rng, lambda n: theta + 0.3 * n**-0.5, spread=0.13)
        judge = Limit(orders=(0.5, 1.0))
        assert rate(judge, cases(1.0), "verified") >= at_least(0.99)
        assert rate(judge, cases(1.1), "refuted") >= at_least(0.99)
        assert len(judge(cases(1.0)()).gates["models"]) == 10

    def test_no_extrapolation_errs_at_the_edge(self):
        """The control of the hull: the largest size taken for the limit is wrongly verified, the hull is not."""
        rng = np.random.default_rng(3)
        cases = size_cases(rng, lambda n: 0.95 + 10 / n + 500 / n**2)
        wrong = 0
        for _ in range(REPETITIONS):
            data = cases()
            wrong += Equivalence()([data[-1]]).status == "verified"
            assert Limit()(data).status != "verified"
        assert wrong > 0.1 * REPETITIONS

    def test_two_parameters_on_all_sizes_err_at_the_edge(self):
        """The control of the model set: M1 on all sizes, alone, is wrongly verified at many times alpha."""
        from theorysim.verify.extrapolation import hull, independent_sizes, limit_models, linear_model

        rng = np.random.default_rng(4)
        columns = np.stack([np.ones(4), 1 / SIZES], 1)
        alone = linear_model("M1", columns, SIZES**-0.5, np.ones(4, bool))
        sd = 0.56 / np.sqrt(SIZES) / math.sqrt(32)
        mean = 1.05 + 10 / SIZES + 500 / SIZES**2
        means = mean + sd * rng.standard_normal((20_000, 4))
        variances = sd**2 * rng.chisquare(31, (20_000, 4)) / 31
        seeds = np.full(4, 32.0)
        models = limit_models(tuple(np.log(SIZES)), (1.0,))
        fits = [independent_sizes(model, means, variances, seeds) for model in models]
        inflated = hull([independent_sizes(alone, means, variances, seeds)], 0.95, 1.05, ALPHA).p.verified <= ALPHA
        sound = hull(fits, 0.95, 1.05, ALPHA).p.verified <= ALPHA
        assert inflated.mean() == pytest.approx(0.042, abs=0.006)  # 4 s.e.
        assert sound.mean() <= at_most(ALPHA, 20_000)

    def test_shared_seeds_are_judged_by_the_functional_of_each_seed(self):
        rng = np.random.default_rng(5)

        def cases(theta):
            def draw():
                common = rng.standard_normal((32, 1))
                noise = 0.9 * common + math.sqrt(0.19) * rng.standard_normal((32, 4))
                return [Case("x", theta + 10 / SIZES + 0.4 * SIZES**-0.5 * noise, theta * 0 + 1.0, size=SIZES)]

            return draw

        assert rate(Limit(), cases(1.0), "verified") >= at_least(0.99)
        assert rate(Limit(), cases(1.1), "refuted") >= at_least(0.99)
        found = Limit()(cases(1.0)())
        assert found.df == 31

    def test_components_and_groups_are_settings(self):
        rng = np.random.default_rng(6)
        cases = [
            Case(
                "x", np.array([1.0, 2.0]) + 1 / n + 0.01 * rng.standard_normal((64, 2)), np.array([1.0, 2.0]), n, group
            )
            for n in SIZES
            for group in ("a", "b")
        ]
        assert Limit()(cases).gates["settings"] == 4
        assert Limit()(cases).status == "verified"

    def test_a_wrong_order_is_dropped(self):
        rng = np.random.default_rng(7)
        found = Limit(orders=(3.0,))(size_cases(rng, lambda n: 1 + 5 * n**-0.5, spread=0.05)())
        assert found.status == "inconclusive"
        assert "lack of fit" in found.reason

    @pytest.mark.parametrize("ratio", [1.5, 2.0, 4.0])
    def test_exact_data(self, ratio):
        sizes = 16 * ratio ** np.arange({1.5: 10, 2.0: 6, 4.0: 5}[ratio])
        y = 1 + 2 / sizes - 1 / sizes**2
        case = Case("x", y[None], 1.0, size=sizes)
        judge = Limit(tolerance=0.02, deterministic=True)
        found = judge([case])
        assert found.status == "verified"
        assert found.certified
        assert found.p_verified is None
        assert ends(found)[0] <= 1 <= ends(found)[1]
        assert judge([case._replace(predicted=1.1)]).status == "refuted"
        known = Limit(tolerance=0.02, deterministic=True, orders=(1.0,))([case])
        assert ends(known)[1] - ends(known)[0] < ends(found)[1] - ends(found)[0]
        assert ends(known)[0] <= 1 <= ends(known)[1]

    def test_exact_data_with_a_case_a_size_and_instances_of_their_own(self):
        sizes = 2.0 ** np.arange(4, 9)
        judge = Limit(tolerance=0.02, deterministic=True)
        assert judge([Case(f"n={n}", np.array([3 + 1 / n]), 3.0, size=n) for n in sizes]).status == "verified"
        limits = np.array([1.0, 2.0, 5.0])
        values = limits[:, None] + 1 / sizes
        assert judge([Case("x", values, limits[:, None], size=sizes)]).gates["settings"] == 3
        assert judge([Case("x", values, limits[:, None], size=sizes)]).status == "verified"
        assert judge([Case("x", values, limits[:, None] * [[1], [1], [1.1]], size=sizes)]).status == "refuted"

    def test_misuse(self):
        rng = np.random.default_rng(8)
        cases = size_cases(rng, lambda n: 1.0)()
        assert "4 sizes" in Limit()(cases[:3]).reason
        with pytest.raises(InputError, match="same for all"):
            Limit()([cases[0]._replace(predicted=2.0), *cases[1:]])
        with pytest.raises(InputError, match="size of x"):
            Limit()([Case("x", np.ones(8), 1.0)])
        with pytest.raises(InputError, match="orders"):
            Limit(orders=(1.0, 0.5))
        broken = np.ones(32)
        broken[0] = np.nan
        assert Limit()([cases[0]._replace(observed=broken), *cases[1:]]).status == "inconclusive"


# --- rate -----------------------------------------------------------------------------------------------------------


class TestRate:
    sizes = 64.0 * 2 ** np.arange(8)

    def cases(self, rng, slope, factor=lambda n: 1.0, relative=0.0045, seeds=32):
        def draw():
            spread = relative * math.sqrt(seeds)
            return [
                Case(f"n={n}", 2 * n**slope * factor(n) * (1 + spread * rng.standard_normal(seeds)), -1.0, size=n)
                for n in self.sizes
            ]

        return draw

    def test_pure_power_law(self):
        rng = np.random.default_rng(1)
        # the largest half has slope s.e. .65 of a mean's
        relative = 0.05 / 0.65 / design_factors(64).verify
        assert rate(Rate(), self.cases(rng, -1.0, relative=relative), "verified") >= at_least(0.99)
        assert rate(Rate(), self.cases(rng, -1.1, relative=relative), "refuted") >= at_least(0.99)
        for status in ("verified", "refuted"):
            assert rate(Rate(), self.cases(rng, -1.05), status, 400, 0.01) <= at_most(0.01, 400)

    @pytest.mark.parametrize(("coefficient", "b"), [(0.0, 1.0), (3.0, 1.0), (3.0, 0.5), (-2.0, 0.5)])
    def test_corrected(self, coefficient, b):
        rng = np.random.default_rng(2)
        factor = lambda n: 1 + coefficient * n**-b
        judge = Rate(correction=(0.5, 1.0))
        assert rate(judge, self.cases(rng, -1.0, factor), "verified") >= at_least(0.985)
        assert rate(judge, self.cases(rng, -1.1, factor), "refuted") >= at_least(0.985)

    def test_curvature_without_a_declared_correction_is_no_verdict(self):
        rng = np.random.default_rng(3)
        found = Rate()(self.cases(rng, -1.0, lambda n: 1 + 3 * n**-0.5, relative=0.002)())
        assert found.status == "inconclusive"
        assert "curvature" in found.reason

    def test_sides(self):
        rng = np.random.default_rng(4)
        steep = self.cases(rng, -1.5)()
        assert Rate(side="upper")(steep).status == "verified"
        assert Rate(side="lower")(steep).status == "refuted"
        assert Rate()(steep).status == "refuted"

    def test_shared_seeds(self):
        rng = np.random.default_rng(5)

        def cases(slope):
            common = 0.3 * rng.standard_normal((64, 1))
            noise = 1 + common + 0.02 * rng.standard_normal((64, 8))
            return [Case("x", 3 * self.sizes**slope * noise, -1.0, size=self.sizes)]

        assert rate(Rate(), lambda: cases(-1.0), "verified") >= at_least(0.99)
        assert rate(Rate(), lambda: cases(-1.1), "refuted") >= at_least(0.99)

    def test_exponential(self):
        rng = np.random.default_rng(6)
        times = np.arange(1.0, 9.0)
        values = 5 * np.exp(-0.7 * times) * (1 + 0.02 * rng.standard_normal((64, 8)))
        assert Rate(exponential=True)([Case("x", values, -0.7, size=times)]).status == "verified"
        assert Rate(exponential=True)([Case("x", values, -0.9, size=times)]).status == "refuted"
        exact = np.exp(-0.7 * times) * (1 + 2 * np.exp(-1.3 * times))
        judge = Rate(exponential=True, deterministic=True, correction=(1.0, 2.0))
        assert judge([Case("x", exact[None], -0.7, size=times)]).status == "verified"
        assert judge([Case("x", exact[None], -0.9, size=times)]).status == "refuted"
        with pytest.raises(InputError, match="correction"):
            Rate(exponential=True, deterministic=True)

    @pytest.mark.parametrize(
        "sizes", [2.0 ** np.arange(4, 9), np.array([1e4, 3e4, 1e5, 3e5, 1e6]), 16 * 1.5 ** np.arange(8)]
    )
    def test_exact_data_covers_random_corrections(self, sizes):
        """Coverage over corrections inside the declared range, for doubling, uneven and slowly growing sizes."""
        rng = np.random.default_rng(7)
        start = sizes[0]
        missed = 0
        judge = Rate(tolerance=0.5, deterministic=True)
        for _ in range(300):
            b = rng.uniform(0.5, 2)
            # corrections as large as at n = 16 with coefficients up to 3
            first, second = rng.uniform(-3, 3, 2) * np.array([16.0**-b, 16.0 ** (-2 * b)])
            y = sizes**-2.0 * (1 + first * (sizes / start) ** -b + second * (sizes / start) ** (-2 * b))
            if (y <= 0).any():
                continue
            lower, upper = ends(judge([Case("x", y[None], -2.0, size=sizes)]))
            missed += not lower <= -2 <= upper
        assert missed == 0

    def test_exact_data_outside_the_declared_range_can_miss(self):
        sizes = 2.0 ** np.arange(4, 9)
        y = sizes**-2.0 * (1 + 3 * sizes**-0.3)
        lower, upper = ends(Rate(deterministic=True)([Case("x", y[None], -2.0, size=sizes)]))
        assert not lower <= -2 <= upper

    def test_exact_data_of_uneven_sizes(self):
        sizes = np.array([1e4, 3e4, 1e5, 3e5, 1e6])
        y = 120 / (sizes**2 * 1e-4) * (1 + 300 / sizes)
        judge = Rate(deterministic=True)
        assert judge([Case("x", y[None], -2.0, size=sizes)]).status == "verified"
        assert judge([Case("x", y[None], -1.0, size=sizes)]).status == "refuted"
        assert len(judge([Case("x", y[None], -2.0, size=sizes)]).gates["local slopes"]) == 4

    def test_data_that_cannot_be_judged(self):
        rng = np.random.default_rng(8)
        cases = self.cases(rng, -1.0)()
        negative = cases[0]._replace(observed=-cases[0].observed)
        assert "logarithm" in Rate()([negative, *cases[1:]]).reason
        noisy = cases[0]._replace(observed=np.abs(rng.standard_cauchy(8)))
        assert Rate()([noisy, *cases[1:]]).status == "inconclusive"
        exact = Rate(deterministic=True)([Case("x", np.array([[1.0, 0.5, 0.0, 0.1]]), -1.0, size=2.0 ** np.arange(4))])
        assert exact.status == "inconclusive"


# --- threshold ------------------------------------------------------------------------------------------------------


class TestThreshold:
    sizes = (250, 500, 1000, 2000)

    @staticmethod
    def levels(setting):
        width, centre = 0.35 * setting**-0.5, 0.7 + setting**-0.5
        return tuple(centre + width * np.linspace(-2, 2, 9))

    def cases(self, rng, predicted, seeds=400):
        def draw():
            result = []
            for n in self.sizes:
                levels = np.array(self.levels(n))
                success = rng.random((seeds, 9)) < special.expit((levels - 0.7 - n**-0.5) / (0.35 * n**-0.5))
                result.append(Case(n, success.astype(float), predicted, size=n))
            return result

        return draw

    def test_success_curves_extrapolated(self):
        rng = np.random.default_rng(1)
        judge = Threshold(0.03, absolute=True, orders=(0.4, 0.67), levels=self.levels, independent=True)
        assert rate(judge, self.cases(rng, 0.7), "verified", FEW) >= at_least(0.998, FEW)
        assert rate(judge, self.cases(rng, 0.76), "refuted", FEW) >= at_least(0.998, FEW)
        known = Threshold(0.03, absolute=True, orders=(0.5,), levels=self.levels, independent=True)
        statuses = [known(self.cases(rng, 0.73)(), 0.01).status for _ in range(FEW)]
        assert max(statuses.count("verified"), statuses.count("refuted")) / FEW <= at_most(0.01, FEW)

    def test_location_at_each_size_and_a_skewed_curve(self):
        rng = np.random.default_rng(2)
        levels = tuple(np.linspace(-2, 2, 9))
        # a Gumbel curve crosses 1/2 at log log 2 below its centre
        probability = 1 - np.exp(-np.exp(np.array(levels)))
        success = (rng.random((2000, 9)) < probability).astype(float)
        found = Threshold(0.1, absolute=True, levels=levels)([Case("x", success, math.log(math.log(2)))])
        assert found.status == "verified"
        assert found.gates["quadratic"]

    def test_seeds_shared_by_levels(self):
        """A seed succeeds at every level above its own threshold: the binomial s.e. is too small, not the jackknife."""
        rng = np.random.default_rng(3)
        levels = tuple(np.linspace(0.5, 0.9, 9))

        def draw():
            thresholds = 0.7 + 0.1 * rng.logistic(size=(200, 1)) / 1.8
            return [Case("x", (np.array(levels) > thresholds).astype(float), 0.65)]

        # the truth .7 lies at the edge of .65 + .05
        shared = Threshold(0.05, absolute=True, levels=levels)
        assert rate(shared, draw, "verified", 300, 0.01) <= at_most(0.01, 300)
        independent = Threshold(0.05, absolute=True, levels=levels, independent=True)
        assert rate(independent, draw, "verified", 300, 0.01) > 0.05

    def test_thresholds_of_the_seeds(self):
        rng = np.random.default_rng(4)
        draw = lambda centre: lambda: [Case("x", centre + 0.05 * rng.standard_normal(160), 0.7)]
        judge = Threshold(0.05)
        assert rate(judge, draw(0.7), "verified") >= at_least(0.99)
        assert rate(judge, draw(0.77), "refuted") >= at_least(0.99)
        assert rate(judge, draw(0.735), "verified", 300, 0.01) <= at_most(0.01, 300)
        cases = [Case(n, 0.7 + n**-0.5 + 0.3 * n**-0.5 * rng.standard_normal(400), 0.7, size=n) for n in self.sizes]
        assert Threshold(0.05, orders=(0.5,))(cases).status == "verified"
        assert Threshold(0.05, orders=(0.5,))([c._replace(predicted=0.8) for c in cases]).status == "refuted"

    def test_brackets(self):
        judge = Threshold(1e-6, absolute=True, deterministic=True)
        case = Case("x", np.array([[0.7, 0.7 + 1e-9]]), 0.7)
        assert judge([case]).status == "verified"
        assert judge([case]).certified
        assert judge([case._replace(predicted=0.8)]).status == "refuted"
        assert judge([case._replace(observed=np.array([[0.6, 0.8]]))]).status == "inconclusive"
        assert judge([case._replace(observed=np.array([[0.8, 0.6]]))]).status == "inconclusive"

    def test_data_that_cannot_be_judged(self):
        levels = tuple(np.linspace(0, 1, 9))
        judge = Threshold(levels=levels)
        assert judge([Case("x", np.zeros((50, 9)), 0.5)]).status == "inconclusive"
        assert judge([Case("x", np.full((50, 9), np.nan), 0.5)]).status == "inconclusive"
        step = np.tile((np.array(levels) > 0.5).astype(float), (50, 1))
        assert judge([Case("x", step, 0.5)]).status == "inconclusive"
        with pytest.raises(InputError, match="levels"):
            judge([Case("x", np.zeros((50, 8)), 0.5)])


# --- law ------------------------------------------------------------------------------------------------------------


class TestLaw:
    normal = stats.norm()

    def draw(self, rng, shift=0.0, scale=1.0, shape=16_000):
        return lambda: [Case("x", shift + scale * rng.standard_normal(shape), self.normal)]

    def test_normal(self):
        rng = np.random.default_rng(1)
        assert rate(Law(), self.draw(rng), "verified", FEW) >= at_least(0.98, FEW)
        assert rate(Law(), self.draw(rng, scale=1.1), "refuted", FEW) >= at_least(0.995, FEW)
        assert rate(Law(), self.draw(rng, shift=0.1), "refuted", FEW) >= at_least(0.995, FEW)

    def test_edge(self):
        rng = np.random.default_rng(2)
        statuses = [Law()(self.draw(rng, shift=0.05)(), 0.01).status for _ in range(FEW)]
        assert max(statuses.count("verified"), statuses.count("refuted")) / FEW <= at_most(0.01, FEW)

    def test_clustered_draws(self):
        rng = np.random.default_rng(3)

        def draw(shift):
            between = math.sqrt(0.2) * rng.standard_normal((2000, 1))
            return [Case("x", shift + between + math.sqrt(0.8) * rng.standard_normal((2000, 5)), self.normal)]

        judge = Law(tolerance=0.05, mean_tolerance=0.1)
        assert rate(judge, lambda: draw(0.0), "verified") >= at_least(0.99)
        assert rate(judge, lambda: draw(0.3), "refuted") >= at_least(0.99)
        assert judge(draw(0.0)).samples == 2000

    def test_lattice_is_compared_at_half_steps(self):
        rng = np.random.default_rng(4)
        spins = rng.binomial(16, 0.5, 20_000) * 2.0 - 16
        law = stats.norm(0, 4)
        assert Law(spacing=2.0)([Case("x", spins, law)]).status == "verified"
        assert Law()([Case("x", spins, law)]).status == "refuted"

    def test_discrete_and_tabulated_laws(self):
        rng = np.random.default_rng(5)
        points = np.arange(12.0)
        law = Discrete(points, stats.binom.pmf(points, 11, 0.3))
        assert Law()([Case("x", rng.binomial(11, 0.3, 20_000).astype(float), law)]).status == "verified"
        assert Law()([Case("x", rng.binomial(11, 0.33, 20_000).astype(float), law)]).status == "refuted"
        grid = np.linspace(-7, 7, 2001)
        table = Tabulated(grid, self.normal.cdf(grid))
        assert (table.mean(), table.std()) == pytest.approx((0, 1), abs=1e-5)
        assert Law()([Case("x", rng.standard_normal(20_000), table)]).status == "verified"
        # as the prediction arrives when it was passed through np.asarray
        wrapped = np.empty((), object)
        wrapped[()] = law
        assert Law()([Case("x", rng.binomial(11, 0.3, 20_000).astype(float), wrapped)]).status == "verified"

    def test_heavy_tails_by_bounded_functionals(self):
        rng = np.random.default_rng(6)
        law = stats.cauchy()
        assert Law(bounded=True)([Case("x", rng.standard_cauchy(20_000), law)]).status == "verified"
        assert Law(bounded=True)([Case("x", 1.3 * rng.standard_cauchy(20_000), law)]).status == "refuted"

    def test_different_settings_are_pooled_by_their_transforms(self):
        rng = np.random.default_rng(7)
        scales = np.linspace(0.5, 2, 40)
        cases = [Case(s, s * rng.standard_normal(500), stats.norm(0, s)) for s in scales]
        assert Law(pooled=True)(cases).status == "verified"
        # off by a shift of a third of each law's own sd
        assert Law(pooled=True)([c._replace(observed=c.observed + c.setting / 3) for c in cases]).status == "refuted"
        binary = Discrete(np.array([0.0, 1.0]), np.array([0.3, 0.7]))
        outcomes = (rng.random(20_000) < 0.7).astype(float)
        assert Law(pooled=True)([Case("x", outcomes, binary)]).status == "verified"

    def test_quenched_instances_are_settings(self):
        rng = np.random.default_rng(8)
        found = Law(quenched=True)([Case("x", rng.standard_normal((3, 20_000)), self.normal)])
        assert found.status == "verified"
        assert found.gates["settings"] == 9

    def test_invalid_data(self):
        draws = np.random.default_rng(9).standard_normal(20_000)
        draws[0] = np.nan
        assert Law()([Case("x", draws, self.normal)]).status == "inconclusive"
        assert Law(pooled=True)([Case("x", draws, self.normal)]).status == "inconclusive"
        assert Law()([]).status == "inconclusive"
        with pytest.raises(InputError, match="law must have cdf"):
            Law()([Case("x", draws, 1.0)])


class TestPMF:
    points = np.arange(12.0)
    law = Discrete(points, np.full(12, 1 / 12))

    def draw(self, rng, draws, strength=0.0):
        truth = (1 + strength * np.where(self.points % 2 == 0, 1, -1)) / 12
        return lambda: [Case("x", rng.choice(self.points, draws, p=truth), self.law)]

    def test_equivalence(self):
        rng = np.random.default_rng(1)
        assert rate(PMF(), self.draw(rng, 10_000), "verified", FEW) >= at_least(0.99, FEW)
        assert rate(PMF(), self.draw(rng, 5000, 0.2), "refuted", FEW) >= at_least(0.99, FEW)
        statuses = [PMF()(self.draw(rng, 2000, 0.1)(), 0.01).status for _ in range(FEW)]
        assert max(statuses.count("verified"), statuses.count("refuted")) / FEW <= at_most(0.01, FEW)

    def test_counts_and_merged_bins(self):
        rng = np.random.default_rng(2)
        probabilities = stats.binom.pmf(self.points, 11, 0.3)
        counts = rng.multinomial(100, probabilities, 200)
        found = PMF()([Case("x", counts, probabilities)])
        assert found.status == "verified"
        assert found.gates["least expected"] >= 20
        shifted = stats.binom.pmf(self.points, 11, 0.33)
        assert PMF()([Case("x", rng.multinomial(100, shifted, 200), probabilities)]).status == "refuted"

    def test_invalid_data(self):
        assert PMF()([Case("x", np.array([0.0, 0.5]), self.law)]).status == "inconclusive"
        assert PMF()([Case("x", np.array([0.0, np.nan]), self.law)]).status == "inconclusive"
        assert PMF()([Case("x", np.zeros(0), self.law)]).status == "inconclusive"
        with pytest.raises(InputError, match="predicted"):
            PMF()([Case("x", np.zeros((5, 3)), np.ones(4) / 4)])


# --- ordering -------------------------------------------------------------------------------------------------------


class TestOrdering:
    def draw(self, rng, shift, seeds, heavy=False):
        noise = (lambda: rng.standard_t(2, seeds)) if heavy else (lambda: rng.standard_normal(seeds))

        def cases():
            baseline = 10 + rng.standard_normal(seeds)
            return [Case("x", baseline + shift + noise(), baseline)]

        return cases

    @pytest.mark.parametrize(("functional", "seeds"), [("mean", 41), ("trimmed", 48), ("win", 80)])
    def test_effect_of_one_sd(self, functional, seeds):
        rng = np.random.default_rng(1)
        judge = Ordering(functional)
        count = FEW if functional == "win" else REPETITIONS
        assert rate(judge, self.draw(rng, 1.0, seeds), "verified", count) >= at_least(0.99, count)
        assert rate(judge, self.draw(rng, -1.0, seeds), "refuted", count) >= at_least(0.99, count)
        for status in ("verified", "refuted"):
            assert rate(judge, self.draw(rng, 0.0, seeds), status, 2 * count, 0.01) <= at_most(0.01, 2 * count)

    def test_heavy_tails(self):
        rng = np.random.default_rng(2)
        assert rate(Ordering("trimmed"), self.draw(rng, 1.0, 64, True), "verified") >= at_least(0.95)
        assert rate(Ordering("win"), self.draw(rng, 1.0, 64, True), "verified") >= at_least(0.88)
        assert rate(Ordering("mean"), self.draw(rng, 1.0, 64, True), "verified") < 0.7

    def test_least_difference(self):
        rng = np.random.default_rng(3)
        cases = self.draw(rng, 1.0, 400)()
        assert Ordering(at_least=0.5)(cases).status == "verified"
        assert Ordering(at_least=1.5)(cases).status == "refuted"

    def test_chain_and_differences(self):
        rng = np.random.default_rng(4)
        steps = np.array([1.0, 2.0]) + 0.5 * rng.standard_normal((64, 2))
        found = Ordering()([Case("x", steps, 0.0)])
        assert found.status == "verified"
        assert found.gates["win rate"] > 0.9
        assert Ordering()([Case("x", steps - [0.0, 4.0], 0.0)]).status == "refuted"

    def test_thirteen_wins_are_the_fewest(self):
        assert Ordering("win")([Case("x", np.arange(1.0, 14.0), 0.0)]).status == "verified"
        assert Ordering("win")([Case("x", np.arange(1.0, 13.0), 0.0)]).status == "inconclusive"

    def test_invalid_data(self):
        assert Ordering()([Case("x", np.array([1.0, np.nan, 2.0]), 0.0)]).status == "inconclusive"
        assert Ordering("win")([Case("x", np.append(np.full(19, np.nan), 1.0), 0.0)]).status == "inconclusive"
        assert Ordering("win")([Case("x", np.full(20, np.inf), 0.0)]).status == "verified"
        assert "32 seeds" in Ordering("trimmed")([Case("x", np.arange(1.0, 17.0), 0.0)]).reason
