"""The plain NumPy gradient descent: against mpmath, against finite differences, and on the short reference values."""

from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from theorysim.errors import InputError
from theorysim.papers.large_stepsize_gd import reference, theory

mp.mp.dps = 40
WIDE = np.finfo(np.longdouble).eps < 1e-18  # x86; elsewhere longdouble may be float64
EPS = float(np.finfo(np.longdouble).eps)

TWO_POINT = np.array([[0.1, 0.9], [0.1, -0.5]]), np.ones(2)
XOR = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]]) / np.sqrt(2), np.array([1.0, 1, -1, -1])
FIVE = np.array([[0.05, 1, 2], [0.05, -2, 1], [-1, 0, 2], [0.05, -2, -2], [0.05, 1, -2]]), np.array([1.0, 1, -1, 1, 1])
LINEAR = theory.activation_constants("linear")


def linear(eta, steps, data=TWO_POINT, dtype: type[np.floating] = np.float64):
    X, y = data
    return reference.trajectory(X, y, np.zeros((1, X.shape[1])), np.ones(1), eta, steps, "linear", dtype=dtype)


def xor(eta, steps, m=20, seed=0, activation="softplus", dtype: type[np.floating] = np.float64):
    signs = np.repeat([1.0, -1.0], m // 2)
    W0 = np.random.default_rng(seed).normal(size=(m, 2))
    return reference.trajectory(*XOR, W0, signs, eta, steps, activation, 0.5, dtype=dtype)


def to_mpf(x) -> mp.mpf:
    """Exact, also from np.longdouble, as the sum of two float64."""
    high = np.float64(x)
    return mp.mpf(float(high)) + mp.mpf(float(np.float64(x - np.longdouble(high))))


# --- against mpmath and finite differences ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_erfc(dtype):
    x = np.r_[np.linspace(-6, 6, 121), 1.4999, 1.5, 1.5001, 1e-9, 12.0].astype(dtype)
    values = reference.erfc(x)
    assert values.dtype == dtype
    errors = [abs(to_mpf(v) / mp.erfc(to_mpf(t)) - 1) for t, v in zip(x, values, strict=True)]
    # e^{-x^2} has relative error x^2 eps; 1 - erf loses a factor 1/erfc(1.5) = 30
    assert float(max(errors)) < (40 if dtype == np.longdouble else 80) * float(np.finfo(dtype).eps)


@pytest.mark.parametrize("activation", theory.ACTIVATIONS)
def test_one_step_against_mpmath(activation):
    """The update is -eta m times the gradient of the risk by 40-digit numerical differentiation."""
    rng = np.random.default_rng(0)
    n, d, m, eta, leak, h = 3, 2, 2, 1.7, 0.3, 0.8
    X, y = rng.normal(size=(n, d)), np.array([1.0, -1, 1])
    W, a = rng.normal(size=(m, d)), np.array([1.0, -1])
    phi = {
        "softplus": lambda z: mp.log1p(mp.exp(z)),
        "gelu": lambda z: z * mp.ncdf(z),
        "silu": lambda z: z / (1 + mp.exp(-z)),
        "huberised-relu": lambda z: mp.mpf(0) if z < 0 else (z * z / (2 * mp.mpf(h)) if z < h else z - mp.mpf(h) / 2),
        "linear": lambda z: z,
    }[activation]

    def margins(weights):
        w = mp.matrix(m, d)
        for k, v in enumerate(weights):
            w[k // d, k % d] = v
        for i in range(n):
            z = [sum(mp.mpf(X[i, k]) * w[j, k] for k in range(d)) for j in range(m)]
            leaky = [mp.mpf(leak) * v + (1 - mp.mpf(leak)) * phi(v) for v in z]
            yield mp.mpf(y[i]) * sum(int(a[j]) * leaky[j] for j in range(m)) / m

    def risk(*weights):
        return sum(mp.log1p(mp.exp(-F)) for F in margins(weights)) / n

    at = [mp.mpf(v) for v in W.ravel()]
    gradient = [mp.diff(risk, tuple(at), tuple(int(k == j) for k in range(m * d))) for j in range(m * d)]
    new, diagnostics = reference.one_step(X, y, W, a, eta, activation, leak, h)
    for j in range(m * d):
        assert float(to_mpf(new.ravel()[j]) - (at[j] - mp.mpf(eta) * m * gradient[j])) == pytest.approx(0, abs=40 * EPS)
    F = list(margins(at))
    exact = {
        "risk": risk(*at),
        "slope": sum(1 / (1 + mp.exp(f)) for f in F) / n,
        "min_margin": min(F),
        "norm": mp.sqrt(sum(v * v for v in at)),
        "grad_norm2": sum(g * g for g in gradient),
        "descent": -sum(g * v for g, v in zip(gradient, at, strict=True)),
    }
    for name, value in exact.items():
        assert float(to_mpf(getattr(diagnostics, name)) / value - 1) == pytest.approx(0, abs=60 * EPS), name


@pytest.mark.parametrize("activation", theory.ACTIVATIONS)
def test_precisions_agree(activation):
    wide, narrow = (xor(8.0, 100, m=6, activation=activation, dtype=dtype) for dtype in (np.longdouble, np.float64))
    assert wide["risk"].dtype == np.longdouble
    assert wide["weights"].shape == (6, 2)
    assert set(wide) == {*reference.Diagnostics._fields, "weights"}
    for name, values in wide.items():
        np.testing.assert_allclose(values.astype(float), narrow[name], rtol=1e-10, atol=1e-12)
    if WIDE:
        assert np.any(wide["risk"] != narrow["risk"])


def test_trajectory_records_every_iterate():
    X, y = TWO_POINT
    run = linear(1.0, 5)
    w = np.zeros((1, 2))
    for t in range(6):
        after, diagnostics = reference.one_step(X, y, w, np.ones(1), 1.0, "linear", dtype=np.float64)
        for name in reference.Diagnostics._fields:
            assert run[name][t] == getattr(diagnostics, name)
        if t == 5:
            np.testing.assert_array_equal(run["weights"], w)
        w = after
    assert run["risk"][0] == np.log(2)


def test_huge_margins_do_not_overflow():
    X, y = np.array([[1.0]]), np.array([1.0])
    for sign, risk in ((1, 0.0), (-1, 1e5)):
        _, diagnostics = reference.one_step(X, y, np.array([[sign * 1e5]]), np.ones(1), 1.0, "linear", dtype=np.float64)
        assert diagnostics.risk == risk
        assert diagnostics.slope == (0.0 if sign > 0 else 1.0)


def test_rejects():
    X, y = TWO_POINT
    with pytest.raises(InputError, match="activation must be one of"):
        reference.one_step(X, y, np.zeros((1, 2)), np.ones(1), 1.0, "relu")
    with pytest.raises(InputError, match="step size eta must be positive"):
        reference.trajectory(X, y, np.zeros((1, 2)), np.ones(1), -1.0, 3, "linear")
    with pytest.raises(InputError, match="number of steps"):
        reference.trajectory(X, y, np.zeros((1, 2)), np.ones(1), 1.0, -1, "linear")


# --- reference values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eta", "hit", "last", "peak"),
    [(30, 406, 15, 1.731372), (120, 57, 9, 8.378849), (480, 7, 5, 32.80848), (8, 426, None, None), (960, 7, 5, None)],
)
def test_two_point_transition(eta, hit, last, peak):
    run = linear(eta, 450)
    assert int(np.argmax(run["risk"] <= theory.stable_threshold(eta, 2, LINEAR))) == hit
    assert hit < theory.transition_time_bound(eta, 2, 0.1, 0.0, 0.0, LINEAR)
    increases = np.flatnonzero(np.diff(run["risk"]) > 0) + 1
    assert (None if increases.size == 0 else int(increases[-1])) == last
    if peak is not None:
        assert run["risk"].max() == pytest.approx(peak, rel=1e-6)


def test_transition_control():
    """tau/20 is no bound: at eta = 1 the risk reaches the threshold at 3159, later than either tau/20."""
    run = linear(1.0, 3200)
    hit = int(np.argmax(run["risk"] <= theory.stable_threshold(1.0, 2, LINEAR)))
    assert hit == 3159
    tau = theory.transition_time_bound(1.0, 2, 0.1, 0.0, 0.0, LINEAR)
    closed = theory.transition_time_bound_closed(1.0, 2, 0.1, 0.0, LINEAR)
    assert tau / 20 < closed / 20 < hit < tau < closed


@pytest.mark.parametrize(("eta", "value"), [(1, 0.562852), (10, 0.253658), (100, 0.382183), (1000, 2.803953)])
def test_average_risk(eta, value):
    run = linear(eta, 99)
    assert np.mean(run["risk"]) == pytest.approx(value, rel=2e-6)
    assert np.mean(run["risk"]) <= theory.average_risk_bound(100, eta, 0.1, 0.0, 0.0, LINEAR)
    assert np.mean(run["slope"]) <= theory.average_slope_bound(100, eta, 0.1, 0.0, 0.0, LINEAR)


def test_average_risk_controls():
    one = np.array([[0.1, 0.0]]), np.ones(1)
    average = np.mean(linear(0.1, 9999, one)["risk"])
    assert average == pytest.approx(0.2557997, abs=6e-8)
    assert theory.average_risk_bound(1e4, 0.1, 0.2, 0.0, 0.0, LINEAR) < average  # the margin doubled: violated
    without = LINEAR._replace(lam=0.0)
    average = np.mean(linear(1000, 9)["risk"])
    assert average == pytest.approx(28.0395, abs=6e-5)
    assert theory.average_risk_bound(10, 1000, 0.1, 0.0, 0.0, without) < average
    conflict = np.array([[0.1, 0.9], [0.1, -0.5], [0.1, 0.9]]), np.array([1.0, 1, -1])
    average = np.mean(linear(1.0, 999, conflict)["risk"])
    assert average == pytest.approx(0.55854, abs=6e-6)
    assert theory.average_risk_bound(1000, 1.0, 0.1, 0.0, 0.0, LINEAR) < average


def test_acceleration():
    T = 10_000
    eta = theory.acceleration_stepsize(0.1, T)
    risk = linear(eta, T)["risk"][-1]
    assert risk == pytest.approx(1.2467244087e-2, rel=1e-10)
    assert risk * T**2 / theory.acceleration_constant(0.1) == pytest.approx(1.038937, abs=6e-7)
    monotone = linear(16.0, T)["risk"]
    assert monotone[-1] == pytest.approx(6.272897e-4, rel=2e-7)
    assert np.all(np.diff(monotone) < 0)


def test_monotone_range():
    """Largest eta whose first 400 risks fall: 19.0466, below eta_1 = 20.29."""
    assert np.all(np.diff(linear(19.0466 - 1e-4, 400)["risk"]) <= 0)
    assert np.any(np.diff(linear(19.0466 + 1e-4, 400)["risk"]) > 0)


def test_lower_bound_of_monotone_runs():
    """t L_t >= .63 at every eta up to 19.0466; the least value, .63500, is the first risk at its best eta."""
    best: Any = minimize_scalar(lambda eta: float(linear(eta, 1)["risk"][1]), bounds=(1, 19))
    assert best.fun == pytest.approx(0.63500, abs=6e-6)
    for eta in (0.5, 4.0, best.x, 16.0, 19.0466):
        scaled = linear(eta, 400)["risk"][1:] * np.arange(1, 401)
        assert scaled.min() >= best.fun - 1e-9
    assert (linear(480, 400)["risk"][1:] * np.arange(1, 401)).min() < 1e-3  # not monotone: no such bound


@pytest.mark.parametrize(
    ("eta", "s", "at_1000", "margin"),
    [(8, 765, 0.00906962, 0.0472139652), (32, 305, 0.00220937, None), (128, 18, 2.10909e-4, 0.0436243916)],
)
def test_xor_stable_phase(eta, s, at_1000, margin):
    constants = theory.activation_constants("softplus", 0.5)
    run = xor(eta, 1000)
    hit = int(np.argmax(run["risk"] <= theory.stable_threshold(eta, 4, constants)))
    assert hit == s
    assert run["risk"][1000] == pytest.approx(at_1000, rel=1e-5)
    log_gc = theory.log_modified_margin(run["risk"], run["norm"], 4, eta, constants)
    if margin is not None:
        assert np.sqrt(20) * np.exp(log_gc[hit]) == pytest.approx(margin, rel=1e-8)
    assert np.diff(log_gc[hit:]).min() >= -1e-13
    increases = np.flatnonzero(np.diff(run["risk"]) > 0) + 1
    hard = np.sqrt(20) * run["min_margin"] / run["norm"]
    if eta == 128:
        assert (increases.size, increases[-1]) == (6, 11)
        assert np.diff(hard[hit:]).min() == pytest.approx(-9.3e-5, rel=0.01)  # nearly, not exactly, monotone
    else:
        assert increases.size == 0
    lower, upper, ratio = theory.margin_sandwich(run["risk"][hit:], run["norm"][hit:], 4, eta, constants)
    gbar = (run["min_margin"] / run["norm"])[hit:]
    assert np.all((np.exp(log_gc[hit:]) <= lower) & (lower <= gbar) & (gbar <= upper))
    np.testing.assert_allclose(upper, ratio * np.exp(log_gc[hit:]), rtol=1e-12)
    assert np.all(gbar >= gbar[0] * theory.near_monotone_factor(run["risk"][hit], 4, eta, constants))
    elapsed, start = np.arange(1001 - hit), run["risk"][hit]
    assert np.all(run["risk"][hit:] >= theory.risk_lower_bound(elapsed, start, eta, constants) * (1 - 1e-11))
    above = theory.risk_upper_bound(elapsed, start, eta, 20, np.exp(log_gc[hit]))
    assert np.all(run["risk"][hit:] <= above * (1 + 1e-11))
    ahead = theory.one_step_descent(run["risk"], run["slope"], run["grad_norm2"], eta, 20, constants)[hit:-1]
    assert np.all(run["risk"][hit + 1 :] <= ahead * (1 + 1e-14))


def test_margin_control():
    """With the sign of C flipped, the modified margin of the two-point run at eta = 10 falls."""
    run = linear(10.0, 2000)
    hit = int(np.argmax(run["risk"] <= theory.stable_threshold(10.0, 2, LINEAR)))
    assert hit == 423
    risk, norm = run["risk"][hit:], run["norm"][hit:]
    right = theory.log_modified_margin(risk, norm, 2, 10.0, LINEAR)
    assert np.diff(right).min() > 0
    C, u = theory.correction_constant(2, 10.0, LINEAR), theory.guaranteed_margin(risk, 2, LINEAR)
    assert np.diff(right + 2 * C * risk / u).min() == pytest.approx(-2.3e-4, rel=0.03)


def test_xor_constant():
    run = xor(16.0, 10_000)
    W = run["weights"]
    axes = XOR[0]
    group = np.argmax(W @ axes.T, axis=1)
    counts = np.bincount(group, minlength=4)
    assert counts.tolist() == [5, 5, 3, 7]
    relative = 16.0 * 10_000 * run["risk"][-1] / theory.xor_constant(counts, 0.5, 20) - 1
    assert relative == pytest.approx(2.845e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("eta", "t", "risk", "margin"),
    [
        (1.5, 1000, 0.2724306, -0.0040665),
        (3.0, 10, 0.4858930, -0.2962430),
        (3.0, 100, 0.3797907, -0.0581189),
        (3.0, 1000, 0.1975456, 0.0079393),
    ],
)
def test_five_points(eta, t, risk, margin):
    run = reference.trajectory(*FIVE, np.zeros((2, 3)), np.array([1.0, -1]), eta, t, "softplus", 0.5, dtype=np.float64)
    assert run["risk"][-1] == pytest.approx(risk, abs=6e-8)
    assert run["min_margin"][-1] / run["norm"][-1] == pytest.approx(margin, abs=6e-8)
