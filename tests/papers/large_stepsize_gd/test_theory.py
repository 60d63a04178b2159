"""Closed forms against mpmath at 40 digits, optimised bounds against grids, limits against general solvers.

Everything is deterministic: random instances have fixed seeds, and the comparisons hold for every instance.
"""

from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize, minimize_scalar

from theorysim.errors import InputError
from theorysim.papers.large_stepsize_gd import theory

mp.mp.dps = 40

LINEAR = theory.activation_constants("linear")
PHI = {
    "softplus": lambda z: mp.log(1 + mp.exp(z)),
    "gelu": lambda z: z * mp.ncdf(z),
    "silu": lambda z: z / (1 + mp.exp(-z)),
}


def instances(seed: int, size: int) -> dict[str, Any]:
    """Random instances of the bounds for separable data, over five decades of eta."""
    rng = np.random.default_rng(seed)
    norm2 = rng.choice([0, 0.01, 1, 25], size)
    families = [theory.activation_constants(name, rng.uniform(0.2, 0.9, size)) for name in theory.ACTIVATIONS]
    which = rng.integers(0, len(families), size)
    fields = [np.choose(which, [np.broadcast_to(f[k], size) for f in families]) for k in range(4)]
    return {
        "eta": 10 ** rng.uniform(-2, 3, size),
        "gamma": 10 ** rng.uniform(-2, -0.1, size),
        "norm2": norm2,
        "alignment": rng.uniform(-1, 1, size) * np.sqrt(norm2),
        "constants": theory.ActivationConstants(*fields),
    }


def without_alignment(i: dict) -> dict:
    return {name: value for name, value in i.items() if name != "alignment"}


# --- activations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["softplus", "gelu", "silu"])
def test_constants_to_full_precision(activation):
    """Extrema of the definitions, by 40-digit Newton iterations on numerically differentiated phi."""
    phi = PHI[activation]

    def d(z, k):
        return mp.diff(phi, z, k)

    def largest(f, starts):
        slope = lambda z: mp.diff(f, z)
        values = []
        for start in starts:
            try:
                values.append(abs(f(mp.findroot(slope, start, tol=1e-22))))
            except ValueError:
                continue
        return max(values)

    k = theory.activation_constants(activation)
    offset = lambda z: phi(z) - z * d(z, 1)
    starts = (mp.mpf("0.001"), mp.mpf("1.4"), mp.mpf("2.4"))
    assert float(largest(offset, starts)) == pytest.approx(k.kappa, rel=1e-15)
    assert abs(float(d(mp.mpf(0), 2))) == pytest.approx(k.beta, rel=1e-15)
    if activation != "softplus":  # there inf and sup are limits
        assert float(largest(lambda z: d(z, 1), starts)) == pytest.approx(k.lam, rel=1e-15)
        assert float(largest(lambda z: d(z, 1), [-s for s in starts[1:]])) == pytest.approx(-k.alpha, rel=1e-14)


@pytest.mark.parametrize(
    ("activation", "kappa", "beta", "alpha", "lam"),
    [
        ("softplus", 0.6931471806, 0.25, 0.0, 1.0),
        ("gelu", 0.2935253263, 0.7978845608, -0.1289041452, 1.1289041452),
        ("silu", 0.4392288399, 0.5, -0.0998393201, 1.0998393201),
        ("huberised-relu", 0.5, 1.0, 0.0, 1.0),
        ("linear", 0.0, 0.0, 1.0, 1.0),
    ],
)
def test_constants_table(activation, kappa, beta, alpha, lam):
    np.testing.assert_allclose(tuple(theory.activation_constants(activation)), (kappa, beta, alpha, lam), atol=5e-11)


@pytest.mark.parametrize("activation", theory.ACTIVATIONS)
def test_constants_bound_a_grid(activation):
    """The leaky activation itself, differentiated numerically: each supremum is reached and not exceeded."""
    z = np.linspace(-40, 40, 800_001)
    h = 0.7
    base = {
        "softplus": np.logaddexp(0, z),
        "gelu": z * np.array(theory.ndtr(z)),
        "silu": z * theory.expit(z),
        "huberised-relu": np.clip(z, 0, h) ** 2 / (2 * h) + np.maximum(z - h, 0),
        "linear": z,
    }[activation]
    leak = np.array([0.0, 0.1, 0.5])
    constants = theory.activation_constants(activation, leak, h)
    for j, c in enumerate(leak):
        phi = c * z + (1 - c) * base
        slope = np.gradient(phi, z)
        kappa, beta, alpha, lam = (np.broadcast_to(v, leak.shape)[j] for v in constants)
        # central differences with step 1e-4: error beta' 1e-8/6 of the slope, but 5e-5 beta at the kinks of phi''
        loose = 1e-4 if activation == "huberised-relu" else 1e-7
        assert np.max(np.abs(phi - z * slope)[1:-1]) == pytest.approx(kappa, abs=loose)
        assert np.max(np.abs(slope)) == pytest.approx(lam, abs=loose)
        assert np.min(slope) == pytest.approx(alpha, abs=loose)
        assert np.max(np.abs(np.gradient(slope, z))) == pytest.approx(beta, abs=1e-3)


def test_leak_at_which_the_slope_becomes_positive():
    for activation, leak in (("gelu", 0.1141852), ("silu", 0.0907763)):
        below, above = theory.activation_constants(activation, np.array([leak - 1e-7, leak + 1e-7])).alpha
        assert below < 0 < above


def test_constants_reject():
    for activation, leak in (("relu", 0.0), ("gelu", 1.0), ("gelu", -0.1)):
        with pytest.raises(InputError, match=r"got"):
            theory.activation_constants(activation, leak)
    with pytest.raises(InputError, match="Huberised"):
        theory.activation_constants("huberised-relu", h=0.0)


def test_logistic_loss():
    F = np.array([-800.0, -30, -1, 0, 1e-3, 1, 35.9, 36.1, 300, 700])
    exact = [mp.log1p(mp.exp(-mp.mpf(f))) for f in F.tolist()]
    np.testing.assert_allclose(theory.logistic_loss(F), [float(e) for e in exact], rtol=1e-15)
    np.testing.assert_allclose(theory.log_logistic_loss(F), [float(mp.log(e)) for e in exact], rtol=1e-15)
    assert theory.log_logistic_loss(5000.0) == -5000.0
    assert np.isnan(theory.log_logistic_loss(np.nan))


# --- thresholds and descent -------------------------------------------------------------------------------------------


def test_thresholds():
    k = theory.activation_constants("softplus", 0.5)
    assert theory.stable_threshold(1.0, 1, LINEAR) == pytest.approx(1 / (2 * np.e**2))
    assert theory.stable_threshold(1e3, 1, LINEAR) == pytest.approx(1 / 4e3)
    assert theory.stable_threshold(100.0, 4, k) == pytest.approx(1 / (100 * (4 + 0.25)))
    assert theory.stable_threshold(0.1, 4, k) == pytest.approx(1 / (8 * np.sqrt(2) * np.e**2))  # e^kappa = 2^(1/2)
    assert theory.descent_limit(LINEAR) == 1
    gelu = theory.activation_constants("gelu")
    assert theory.descent_limit(gelu) == pytest.approx(1 / ((np.e - 2) * 1.1289041452**2 + 0.7978845608 / 2), rel=1e-9)
    assert theory.linear_descent_constant() == pytest.approx(1.2564312, abs=5e-8)
    q = theory.linear_descent_constant()
    assert float(mp.expm1(mp.mpf(q)) - 2 * mp.mpf(q)) == pytest.approx(0, abs=1e-15)
    for bad in (0.0, -0.1):
        with pytest.raises(InputError, match="step size eta must be positive, got"):
            theory.stable_threshold(bad, 2, LINEAR)


def test_stable_threshold_is_far_below_the_descent_limit():
    for activation in theory.ACTIVATIONS:
        k = theory.activation_constants(activation, np.linspace(0, 0.9, 10))
        assert np.all(theory.descent_limit(k) >= 4 * theory.stable_threshold(1.0, 1, k) * (1 - 1e-12))


@pytest.mark.parametrize("x", np.linspace(1e-6, 1 / (2 * np.e**2), 7))
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_constants_of_the_stable_phase_suffice(x, share):
    """The inequalities between numbers behind C, 4/3 and .7, over the whole range of nL = x and of beta/Lam^2."""
    lam2, half_beta = 1 - share, share  # eta L (Lam^2 + beta/2) = a <= 1/4
    a = np.linspace(1e-9, 0.25, 51)
    descent = a * ((np.e - 2) * lam2 + half_beta)  # eta L ((e-2) Lam^2 + beta/2)
    u = np.log(1 / (2 * x))  # kappa = 0; a larger kappa only lowers the admissible x
    assert u >= 2 - 1e-12
    CL = 4 / 3 * (x + a)
    # growth of Phi against growth of log ||W||
    assert np.all((1 + CL) * (1 - descent) >= 1 + x + a * lam2 / (2 * u))
    # convexity of Phi
    assert np.all(u - 1 >= CL * (1 + 2 / u))
    # sandwich: L/G <= x/(1 - e^{-x}) since every loss is at most n L
    ratio = x / -np.expm1(-x)
    assert np.all((1 - descent / ratio) / ratio**2 >= 0.7)
    decrease = a * lam2 * (1 + a * half_beta)
    assert np.all((1 + a * half_beta) / (1 - decrease) <= 4 / 3 + 1e-12)


def test_slope_to_risk():
    p = 1 / (2 * np.e**2) / theory.SLOPE_TO_RISK
    assert -np.log1p(-p) <= theory.SLOPE_TO_RISK * p


def test_one_step_descent():
    """At eta -> 0 the decrease is eta m ||grad L||^2; outside its range the bound is NaN."""
    k = theory.activation_constants("gelu")
    small = theory.one_step_descent(0.5, 0.4, 0.01, 1e-9, 3, k)
    assert (0.5 - small) / (3e-9 * 0.01) == pytest.approx(1, rel=1e-6)
    factor = 1 - 2 * 0.1 * ((np.e - 2) * k.lam**2 + k.beta / 2)
    assert theory.one_step_descent(0.5, 0.1, 0.01, 2.0, 3, k) == pytest.approx(0.5 - 2 * 3 * factor * 0.01, rel=1e-15)
    assert np.isnan(theory.one_step_descent(0.5, 0.4, 0.01, 10.0, 3, k))


def test_two_point_step_ratio_is_one_real_step():
    """One real step of gradient descent in 60 digits, at eta = 1e12, from the state eta L = C, ell_2/ell_1 = e^-a."""
    with mp.workdps(60):
        g, eta = mp.mpf("1e-9"), mp.mpf("1e12")
        norm = mp.sqrt(1 + g * g)
        for C, a in ((1.5, 0.7), (2.1, 0.54), (2.5, 1.1), (3.0, 4.0)):
            r = mp.exp(-mp.mpf(a))
            losses = [2 * C / (eta * (1 + r)), 2 * C * r / (eta * (1 + r))]
            F = [-mp.log(mp.expm1(loss)) for loss in losses]
            # x_1 = (g, 1)/norm, x_2 = (g, -1)/norm
            w = [(F[0] + F[1]) * norm / (2 * g), (F[0] - F[1]) * norm / 2]
            p = [1 / (1 + mp.exp(f)) for f in F]
            w = [w[0] + eta * (p[0] + p[1]) * g / (2 * norm), w[1] + eta * (p[0] - p[1]) / (2 * norm)]
            after = [mp.log1p(mp.exp(-(g * w[0] + s * w[1]) / norm)) for s in (1, -1)]
            assert float(sum(after) / sum(losses)) == pytest.approx(float(theory.two_point_step_ratio(C, a)), rel=1e-10)


def test_two_point_worst_step():
    grid = np.linspace(1e-4, 8, 400_001)
    for C in (2.01, 2.1, 2.5, 4.0):
        a, ratio = theory.two_point_worst_step(C)
        values = theory.two_point_step_ratio(C, grid)
        assert ratio == pytest.approx(values.max(), rel=1e-9)
        assert a == pytest.approx(grid[values.argmax()], abs=1e-3)
    assert theory.two_point_worst_step(2.1)[1] - 1 == pytest.approx(3.7e-3, rel=0.01)
    assert theory.two_point_worst_step(2.5)[1] - 1 == pytest.approx(8.8e-2, rel=0.01)
    assert theory.two_point_worst_step(2.01)[0] == pytest.approx(0.173, abs=5e-4)
    # the deficit is a^4/48 at small a: resolved in float64 from a = .01 on
    assert np.all(theory.two_point_step_ratio(theory.two_point_threshold(), grid[grid > 0.01]) < 1)
    assert theory.two_point_worst_step(1.99) == (0.0, 1.0)


def test_two_point_threshold_is_where_the_increase_begins():
    """Bisection on C with the grid supremum alone."""
    grid = np.geomspace(1e-4, 8, 20_001)
    lo, hi = 1.0, 4.0
    for _ in range(40):
        C = (lo + hi) / 2
        lo, hi = (lo, C) if np.any(theory.two_point_step_ratio(C, grid) > 1) else (C, hi)
    assert hi == pytest.approx(theory.two_point_threshold(), abs=1e-6)


# --- edge of stability ------------------------------------------------------------------------------------------------


def risk_objective(c1, t, eta, gamma, norm2, alignment, k):
    c = c1 + eta * k.lam / (2 * gamma)
    r2 = norm2 - 2 * c * alignment + c**2
    return np.logaddexp(0, k.kappa - c1 * k.alpha * gamma) + r2 / (2 * eta * t)


def slope_objective(c1, t, eta, gamma, norm2, alignment, k):
    c = c1 + eta * k.lam / (2 * gamma)
    r2 = np.maximum(norm2 - 2 * c * alignment + c**2, 0)
    loss = np.logaddexp(0, k.kappa - c1 * k.alpha * gamma)
    return (2 * np.sqrt(r2) + np.sqrt(2 * eta * t * loss)) / (k.alpha * gamma * eta * t)


BOUNDS = [(theory.average_risk_bound, risk_objective), (theory.average_slope_bound, slope_objective)]


@pytest.mark.parametrize(("bound", "objective"), BOUNDS)
def test_optimised_bounds_against_grids(bound, objective):
    size, t = 200, np.array([1.0, 30, 1e3, 1e5, 1e8])
    i = instances(0, size)
    values = bound(t, **i)
    assert values.shape == (size, 5)
    for s in range(size):
        k = theory.ActivationConstants(*(f[s] for f in i["constants"]))
        one = (i["eta"][s], i["gamma"][s], i["norm2"][s], i["alignment"][s], k)
        scale = (60 + k.kappa) / (k.alpha * i["gamma"][s])
        coarse = np.r_[0, np.geomspace(1e-6, 1, 2000), np.linspace(0, 1, 2000)[1:]] * scale
        coarse.sort()
        for j, tj in enumerate(t):
            best = np.argmin(objective(coarse, tj, *one))
            lo, hi = coarse[max(best - 1, 0)], coarse[min(best + 1, coarse.size - 1)]
            refined: Any = minimize_scalar(
                lambda c, tj=tj, one=one: objective(c, tj, *one),
                bounds=(lo, hi),
                options={"xatol": 1e-10 * hi + 1e-300},
            )
            brute = min(refined.fun, objective(coarse[best], tj, *one))
            # the value at a c1 within 1e-8 of the optimum; the brute force is no better than its own xatol
            assert values[s, j] == pytest.approx(brute, rel=1e-12)


@pytest.mark.parametrize(("bound", "objective"), BOUNDS)
def test_large_kappa(bound, objective):
    """A wide Huberised ReLU: the second objective is not convex near c1 = 0, so the minimum there must be compared."""
    k = theory.activation_constants("huberised-relu", 0.5, 12.0)
    for eta in (1e-3, 1.0, 1e3):
        for t in (1.0, 10.0, 1e3, 1e6):
            one = (eta, 0.3, 1.0, -0.5, k)
            grid = np.linspace(0, 600, 600_001)
            brute = objective(grid, t, *one).min()
            assert bound(t, *one) <= brute * (1 + 1e-12)
            assert bound(t, *one) == pytest.approx(brute, rel=1e-5)  # the grid's own resolution


def test_bounds_broadcast():
    i = instances(1, 6)
    t = np.array([5.0, 50.0, 500.0])
    table = theory.average_risk_bound(t, **i)
    assert table.shape == (6, 3)
    for s in range(6):
        np.testing.assert_allclose(theory.average_risk_bound(t, *_instance(i, s)), table[s], rtol=1e-14)
        assert np.ndim(theory.average_risk_bound(5.0, *_instance(i, s))) == 0
    np.testing.assert_allclose(theory.average_risk_bound(50.0, **i), table[:, 1], rtol=1e-14)
    closed = theory.average_risk_bound_closed(t, **without_alignment(i))
    assert closed.shape == (6, 3)
    assert theory.average_risk_bound(np.ones((2, 3)), **i).shape == (6, 2, 3)


def test_closed_forms_are_looser():
    size, t = 300, np.array([1e2, 1e4, 1e6])
    i = instances(2, size)
    rest = without_alignment(i)
    risk, slope = theory.average_risk_bound(t, **i), theory.average_slope_bound(t, **i)
    closed, closed_slope = theory.average_risk_bound_closed(t, **rest), theory.average_slope_bound_closed(t, **rest)
    paper = theory.average_risk_bound_paper(t, **rest)
    assert np.isfinite(closed).mean() > 0.4
    assert np.all(risk <= closed * (1 + 1e-12))
    assert np.all(slope <= closed_slope * (1 + 1e-12))
    assert np.all(closed <= paper * (1 + 1e-12))  # lam <= 1.11 < sqrt 2 here
    reached = i["gamma"][:, None] ** 2 * i["eta"][:, None] * t >= 1
    np.testing.assert_array_equal(np.isfinite(closed), reached)
    linear = theory.average_risk_bound_closed_linear(t, i["eta"], i["gamma"])
    optimal = theory.average_risk_bound(t, i["eta"], i["gamma"], 0.0, 0.0, LINEAR)
    assert np.all(optimal <= linear * (1 + 1e-12))
    both = np.isfinite(linear)
    general = theory.average_risk_bound_closed(t, i["eta"], i["gamma"], 0.0, LINEAR)
    assert np.all(linear[both] <= general[both])


def test_bounds_say_nothing_without_alpha_or_margin():
    plain = theory.activation_constants("huberised-relu")
    assert theory.average_risk_bound(1e6, 1.0, 0.1, 0.0, 0.0, plain) == np.inf
    assert theory.average_slope_bound(1e6, 1.0, 0.0, 0.0, 0.0, LINEAR) == np.inf
    assert theory.average_risk_bound_closed(1e6, 1.0, 0.1, 0.0, plain) == np.inf
    assert theory.transition_time_bound(1.0, 2, 0.1, 0.0, 0.0, plain) == np.inf
    assert theory.transition_time_bound_closed(1.0, 2, 0.0, 0.0, LINEAR) == np.inf
    assert theory.transition_time_paper(1.0, 2, 0.1, 0.0, plain) == np.inf
    assert theory.risk_upper_bound_separable(10, 0.1, 1.0, 0.1, plain) == np.inf
    for name in ("eta", "gamma", "norm2", "alignment"):  # NaN is never a bound
        arguments = {"eta": 1.0, "gamma": 0.1, "norm2": 1.0, "alignment": 0.5} | {name: np.nan}
        assert np.isnan(theory.average_risk_bound(1e6, **arguments, constants=LINEAR))
        assert np.isnan(theory.average_slope_bound(1e6, **arguments, constants=LINEAR))
    with pytest.raises(InputError, match="number of steps t must be positive, got 0"):
        theory.average_risk_bound(np.array([0, 1]), 1.0, 0.1, 0.0, 0.0, LINEAR)


@pytest.mark.parametrize(
    ("eta", "t", "value"),
    [
        (1, 100, 0.818147),
        (1, 1e4, 0.108354),
        (10, 100, 1.943147),
        (10, 1e4, 0.0560759),
        (100, 100, 13.1931),
        (100, 1e4, 0.157853),
        (1000, 100, 125.693),
        (1000, 1e4, 1.28162),
        (1, 1000, 0.40080),
    ],
)
def test_average_risk_bound_reference_values(eta, t, value):
    """Two points with margin .1, w_0 = 0, linear; six printed digits."""
    assert theory.average_risk_bound(t, eta, 0.1, 0.0, 0.0, LINEAR) == pytest.approx(value, rel=6e-6)


def test_average_risk_bound_controls():
    assert theory.average_risk_bound(1e4, 0.1, 0.1, 0.0, 0.0, LINEAR) == pytest.approx(0.3200072, abs=5e-8)
    assert theory.average_risk_bound(1e4, 0.1, 0.2, 0.0, 0.0, LINEAR) == pytest.approx(0.1593789, abs=5e-8)
    without = LINEAR._replace(lam=0.0)  # drops the eta Lam/2 term
    assert theory.average_risk_bound(10, 1000.0, 0.1, 0.0, 0.0, without) == pytest.approx(0.0906, abs=5e-5)


@pytest.mark.parametrize(("eta", "tau"), [(1, 44775.02), (10, 10495.26), (100, 51010.06), (1000, 427640.7)])
def test_transition_time_of_the_closed_form(eta, tau):
    """Printed values belong to the closed form of the slope bound; the optimised bound switches earlier."""
    closed = theory.transition_time_bound_closed(eta, 2, 0.1, 0.0, LINEAR)
    assert closed == pytest.approx(tau, rel=1.5e-7)
    level = theory.stable_threshold(eta, 2, LINEAR) / theory.SLOPE_TO_RISK
    root: Any = brentq(
        lambda t: theory.average_slope_bound_closed(t, eta, 0.1, 0.0, LINEAR) - level, 1e3, 1e7, xtol=1e-9
    )
    assert closed == pytest.approx(root, rel=1e-12)
    assert theory.transition_time_bound(eta, 2, 0.1, 0.0, 0.0, LINEAR) < closed


def test_transition_time_against_direct_minimisation():
    """For fixed c1 the bound reaches the level at a root of a quadratic in sqrt(t): minimise that root over c1."""
    size = 60
    i = instances(3, size)
    n = np.random.default_rng(4).integers(1, 64, size)
    tau = theory.transition_time_bound(n=n, **i)
    level = theory.stable_threshold(i["eta"], n, i["constants"]) / theory.SLOPE_TO_RISK
    np.testing.assert_allclose(
        [theory.average_slope_bound(tau[s], *_instance(i, s)) for s in range(size)], level, rtol=1e-9
    )
    for s in range(size):
        eta, gamma, norm2, alignment, k = _instance(i, s)

        def time(c1, eta=eta, gamma=gamma, norm2=norm2, alignment=alignment, k=k, level=level[s]):
            c = c1 + eta * k.lam / (2 * gamma)
            r = np.sqrt(np.maximum(norm2 - 2 * c * alignment + c * c, 0))
            b = np.sqrt(2 * eta * np.logaddexp(0, k.kappa - c1 * k.alpha * gamma))
            A = level * k.alpha * gamma * eta
            return ((b + np.sqrt(b * b + 8 * A * r)) / (2 * A)) ** 2

        grid = np.linspace(0, 100 / (k.alpha * gamma), 20_001)
        best = np.argmin(time(grid))
        refined: Any = minimize_scalar(time, bounds=(grid[max(best - 1, 0)], grid[best + 1]), options={"xatol": 1e-12})
        assert tau[s] == pytest.approx(min(refined.fun, time(0.0)), rel=1e-9)
    rest = without_alignment(i)
    assert np.all(tau <= theory.transition_time_bound_closed(n=n, **rest) * (1 + 1e-12))
    assert np.all(theory.transition_time_bound_closed(n=n, **rest) < theory.transition_time_paper(n=n, **rest) / 20)


def _instance(i: dict[str, Any], s: int) -> tuple:
    k = theory.ActivationConstants(*(float(f[s]) for f in i["constants"]))
    return float(i["eta"][s]), float(i["gamma"][s]), float(i["norm2"][s]), float(i["alignment"][s]), k


def test_paper_transition_times():
    assert theory.transition_time_paper_linear(1.0, 2, 0.1) == pytest.approx(6000 * np.e)
    assert theory.transition_time_paper_linear(100.0, 2, 0.1) == pytest.approx(6000 * 100)
    assert theory.transition_time_paper_linear(0.1, 50, 0.1) == pytest.approx(6000 * 500 * np.log(500))
    k = theory.activation_constants("softplus", 0.5)
    c1, c2 = 4 * np.exp(np.log(2) / 2 + 2), 8.5
    q = c2 + c1 * 4
    expected = 128 * (1 + 2 * np.log(2)) / (0.05) ** 2 * max(c2, 4 * c1, q * np.log(q), q * 3.0)
    assert theory.transition_time_paper(1.0, 4, 0.1, 9.0, k) == pytest.approx(expected)


# --- stable phase -----------------------------------------------------------------------------------------------------


def test_margin_quantities_against_mpmath():
    k = theory.activation_constants("silu", 0.3)
    n, eta, norm = 7, 3.0, 11.0
    for risk in (1e-3, 1e-8, 1e-200):
        L = mp.mpf(risk)
        u = mp.log(1 / (2 * n * L)) - mp.mpf(float(k.kappa))
        C = mp.mpf(4) / 3 * (n + eta * (mp.mpf(float(k.lam)) ** 2 + mp.mpf(float(k.beta)) / 2))
        gc = u / norm * mp.exp(-C * L / u)
        assert theory.log_modified_margin(risk, norm, n, eta, k) == pytest.approx(float(mp.log(gc)), rel=1e-14)
        assert theory.modified_margin(risk, norm, n, eta, k) == pytest.approx(float(gc), rel=1e-14)
        lower, upper, ratio = theory.margin_sandwich(risk, norm, n, eta, k)
        assert lower == pytest.approx(float(u / norm), rel=1e-14)
        assert upper == pytest.approx(float(mp.log(1 / L) / norm), rel=1e-14)
        assert ratio == pytest.approx(float(mp.log(1 / L) / norm / gc), rel=1e-13)
        assert theory.near_monotone_factor(risk, n, eta, k) * ratio == pytest.approx(1, rel=1e-14)


def test_margin_edges():
    assert np.isnan(theory.log_modified_margin(0.5, 1.0, 1, 1.0, LINEAR))  # u = 0: not defined
    assert np.isnan(theory.near_monotone_factor(0.9, 1, 1.0, LINEAR))
    assert np.isnan(theory.log_modified_margin(np.nan, 1.0, 1, 1.0, LINEAR))
    assert theory.log_modified_margin(0.0, 1.0, 1, 1.0, LINEAR) == np.inf  # the risk underflowed
    assert theory.near_monotone_factor(0.0, 1, 1.0, LINEAR) == 1
    for n in (1, 5):  # u = 2 at the threshold when the sample size decides
        assert theory.guaranteed_margin(theory.stable_threshold(1e-9, n, LINEAR), n, LINEAR) == pytest.approx(2)


def test_risk_sandwich():
    k = theory.activation_constants("gelu", 0.5)
    elapsed = np.array([0.0, 1, 1e3, 1e9])
    lower = theory.risk_lower_bound(elapsed, 0.01, 2.0, k)
    np.testing.assert_allclose(lower, 1 / (100 + 4 / 3 * 2 * k.lam**2 * elapsed), rtol=1e-14)
    upper = theory.risk_upper_bound(elapsed, 0.01, 2.0, 5, 0.1)
    np.testing.assert_allclose(upper, 1 / (100 + 0.7 * 2 * 5 * 0.01 * elapsed), rtol=1e-14)
    separable = theory.risk_upper_bound_separable(elapsed, 0.01, 2.0, 0.2, k)
    np.testing.assert_allclose(separable, 1 / (100 + 0.7 * 2 * (0.2 * k.alpha) ** 2 * elapsed), rtol=1e-14)
    assert theory.risk_lower_bound(10, 0.0, 2.0, k) == 0


# --- limits -----------------------------------------------------------------------------------------------------------


def homogeneous_margin2(X, y, a, leak, W0) -> float:
    """m times the squared maximum margin of the leaky ReLU network within the linear region of W0, by SLSQP."""
    m, d = W0.shape
    slopes = np.where(X @ W0.T > 1e-12, 1.0, np.where(X @ W0.T < -1e-12, leak, (1 + leak) / 2))
    features = (y[:, None] * slopes * a / m)[:, :, None] * X[:, None, :]  # F_i = <features_i, W>
    A = features.reshape(len(y), m * d)
    qp = minimize(
        lambda w: w @ w,
        W0.ravel(),
        jac=lambda w: 2 * w,
        constraints={"type": "ineq", "fun": lambda w: A @ w - 1, "jac": lambda w: A},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return m / qp.fun


@pytest.mark.parametrize("counts", [(2, 2, 2, 2), (2, 2, 1, 3), (5, 5, 3, 7), (4, 6, 3, 7), (1, 9, 1, 1)])
@pytest.mark.parametrize("leak", [0.1, 0.5])
def test_xor_constant_against_a_quadratic_program(counts, leak):
    """Largest margin over the lengths of neurons on their axes, by SLSQP; then stationarity in every direction."""
    X = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]]) / np.sqrt(2)
    y = np.array([1.0, 1, -1, -1])
    m, group = sum(counts), np.repeat(np.arange(4), counts)
    axes, a = X[group], y[group]
    pre = X @ axes.T
    A = y[:, None] * a * np.where(pre > 0, pre, leak * pre) / m
    qp = minimize(
        lambda r: r @ r,
        np.full(m, 3.0 * m),
        jac=lambda r: 2 * r,
        constraints={"type": "ineq", "fun": lambda r: A @ r - 1, "jac": lambda r: A},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    assert m / qp.fun == pytest.approx(theory.xor_margin(np.array(counts), leak, m) ** 2, rel=1e-8)
    assert theory.xor_constant(np.array(counts), leak, m) * m / qp.fun == pytest.approx(1, rel=1e-8)
    np.testing.assert_allclose(A @ qp.x, 1, atol=1e-7)  # all four constraints bind
    multipliers = np.linalg.lstsq(A.T, 2 * qp.x, rcond=None)[0]
    np.testing.assert_allclose(A.T @ multipliers, 2 * qp.x, atol=1e-4 * m)
    assert multipliers.min() > 0
    # the pull of the other class on a neuron vanishes for some slopes s, s' in [leak, 1] with s lam = s' lam'
    for one, other in (multipliers[:2], multipliers[2:]):
        assert leak < one / other < 1 / leak


@pytest.mark.parametrize(
    ("counts", "value"),
    [
        ((2, 2, 2, 2), 64),
        ((2, 2, 1, 3), 74.6667),
        ((5, 5, 3, 7), 70.0952),
        ((5, 5, 5, 5), 64),
        ((5, 5, 4, 6), 65.3333),
        ((4, 6, 3, 7), 71.4286),
    ],
)
def test_xor_constant_reference_values(counts, value):
    assert theory.xor_constant(np.array(counts), 0.5, sum(counts)) == pytest.approx(value, rel=1e-6)


def test_xor_constant_of_an_empty_group():
    assert theory.xor_constant(np.array([2, 2, 4, 0]), 0.5, 8) == np.inf
    assert theory.xor_margin(np.array([[2, 2, 4, 0], [2, 2, 2, 2]]), 0.5, 8) == pytest.approx([0, 0.125])
    with pytest.raises((InputError, TypeError)):  # the shape checks of the test run come first
        theory.xor_constant(np.array([1, 2, 3]), 0.5, 6)


def test_one_sample_margin_against_a_quadratic_program():
    X, y = np.array([[0.6, 0.8]]), np.array([1.0])
    for plus, minus, leak in ((2, 2, 0.5), (3, 1, 0.5), (2, 2, 0.3)):
        a = np.repeat([1.0, -1.0], [plus, minus])
        margin2 = homogeneous_margin2(X, y, a, leak, 5 * a[:, None] * X)
        assert margin2 == pytest.approx(theory.one_sample_margin2(plus, minus, leak), rel=1e-8)
    constants = [1 / theory.one_sample_margin2(*v) for v in ((2, 2, 0.5), (2, 2, 0.3), (3, 1, 0.5))]
    np.testing.assert_allclose(constants, [1.6, 1.8348624, 1.2307692], rtol=3e-8)


def test_risk_constant_of_gradient_flow():
    """dw/dt = -grad L on one sample of unit norm: log(t) later, t L(t) -> 1; e^F + F = t + const solves it exactly."""
    t = 1e12
    F: Any = brentq(lambda F: np.exp(F) + F - 1 - t, 0, 100)
    assert t * np.log1p(np.exp(-F)) == pytest.approx(1, rel=1e-9)


def test_margin_limit_constants():
    b, qb = theory.margin_limit_constants(0.9, 0.5)
    assert (b, qb) == pytest.approx((0.4198476, 0.2099238), abs=5e-8)
    # independently: the minimiser of the loss along w_2 as w_1 -> infinity
    best: Any = minimize_scalar(
        lambda w2: np.exp(-0.9 * w2) + np.exp(0.5 * w2), bounds=(-5, 5), options={"xatol": 1e-12}
    )
    assert b == pytest.approx(best.x, abs=1e-7)
    w = np.array([1e7, b])
    margins = np.array([[0.1, 0.9], [0.1, -0.5]]) @ w
    assert 0.1 * np.linalg.norm(w) - margins.min() == pytest.approx(qb, rel=1e-7)
    with pytest.raises(InputError, match=r"p > q > 0, got p = 0\.5, q = 0\.9"):
        theory.margin_limit_constants(0.5, 0.9)


def test_acceleration():
    assert theory.acceleration_stepsize(0.1, 1e6) == pytest.approx(83.3333333)
    assert theory.acceleration_constant(0.1) == pytest.approx(120e4)
    assert theory.acceleration_constant(0.1, 0.5) == pytest.approx(240e4 / 1.25)
    X, y, a = np.array([[0.1, 0.9], [0.1, -0.5]]), np.ones(2), np.array([1.0, -1.0])
    margin2 = homogeneous_margin2(X, y, a, 0.5, 50 * a[:, None] * np.array([[1.0, 0.0]]))
    # T^2 L = T/(eta Gam^2) with eta = gamma^2 T/120
    assert 120 / (0.01 * margin2) == pytest.approx(theory.acceleration_constant(0.1, 0.5), rel=1e-8)


@pytest.mark.parametrize(
    ("gamma", "value"), [(0.1, 20.2900), (0.05, 17.16622), (0.02, 16.30985), (0.01, 16.187975), (0.0, 16.147374)]
)
def test_largest_monotone_stepsize(gamma, value):
    eta = theory.largest_monotone_stepsize(gamma)
    assert eta == pytest.approx(value, abs=0.6 * 10.0 ** -len(str(value).split(".")[1]))
    X = np.array([[gamma, 0.9], [gamma, -0.5]])

    def first_step(eta):
        return np.mean(np.logaddexp(0, -X @ (eta / 2 * X.mean(axis=0)))) - np.log(2)

    assert first_step(0.999 * eta) < 0 < first_step(1.001 * eta)
    root: Any = brentq(first_step, 5, 100, xtol=1e-13)
    assert eta == pytest.approx(root, rel=1e-12)


def test_largest_monotone_stepsize_edges():
    assert theory.largest_monotone_stepsize(0.4) == np.inf  # gamma^2/2 > q (p - q)/4: both margins grow
    with pytest.raises(InputError, match=r"must not be negative, got -0\.1"):
        theory.largest_monotone_stepsize(-0.1)
    with pytest.raises(InputError, match="p > q > 0"):
        theory.largest_monotone_stepsize(0.1, 0.5, 0.5)
