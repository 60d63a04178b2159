"""Predictions for gradient descent with large stepsizes on the logistic loss: bounds, limits and sharp constants.

Cai, Wu, Mei, Lindsey, Bartlett, NeurIPS 2024 (networks); Wu, Bartlett, Telgarsky, Yu, COLT 2024 (linear predictors).
The theorems are theirs; explicit constants are derived here, with the key step in each docstring.

Convention: f(W; x) = (1/m) sum_j a_j phi(<x, w_j>), a_j = +-1, rows of X in the unit ball, F_i = y_i f(W; x_i),
L = mean ell(F_i), G = mean |ell'(F_i)|, and w_j moves by -eta m grad_j L, so that `eta` does not depend on the width m.
Linear predictors are m = 1, a = 1, phi(z) = z. L_t is the risk before step t. Everything broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from jaxtyping import Shaped
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, ndtr

from theorysim.errors import InputError, require

Real = float | int | np.floating | np.integer | Shaped[np.ndarray, "..."]
"""A number or an array of any shape; arguments broadcast against each other."""

Value: TypeAlias = Any
"""What a broadcasting formula returns, typed as NumPy types its own ufuncs: float64, a scalar for scalars."""

ACTIVATIONS = ("softplus", "gelu", "silu", "huberised-relu", "linear")

SLOPE_TO_RISK = 1.036
"""n G <= .0653 gives L <= 1.036 G: every p_i <= .0653 and ell = -log(1 - p) = p (1 + p/2 + ...) <= 1.0342 p."""


class ActivationConstants(NamedTuple):
    """What the theorems need to know of an activation phi.

    kappa: sup |phi(z) - z phi'(z)|, the distance from homogeneity.
    beta: sup |phi''|.
    alpha: inf phi'; the bounds for separable data need alpha > 0.
    lam: sup phi', which is sup |phi'| as well, since inf phi' >= -lam for every activation here.
    """

    kappa: Value
    beta: Value
    alpha: Value
    lam: Value


# --------------------------------------------------------------------------------------------------------------------
# Activations and the loss
# --------------------------------------------------------------------------------------------------------------------


def activation_constants(activation: str, leak: Real = 0.0, h: float = 1.0) -> ActivationConstants:
    """Constants of the leaky activation phi_c(z) = c z + (1 - c) phi(z); each field has the shape of `leak`.

    phi - z phi' is linear in phi and kills c z; phi'' loses c z as well; phi' is an affine image. So kappa and beta are
    multiplied by 1 - c, and alpha, lam are mapped by x -> c + (1 - c) x. For c = 0:

    - softplus: phi - z phi' is the binary entropy of sigmoid(z), at most log 2 (z = 0); phi'' = s(1 - s) <= 1/4.
    - gelu, z Phi(z): phi - z phi' = -z^2 pdf(z), extremal where 2 z - z^3 = 0; phi'' = (2 - z^2) pdf(z), zero there
      too, so phi' has its extrema at +-sqrt 2; |phi''| is largest at 0 (its other extrema, at +-2, are 2 pdf(2) =
      .108).
    - silu, z s(z): phi - z phi' = -z^2 s(1 - s) and phi'' = s(1 - s)(2 - z tanh(z/2)): both extremal conditions are
      z tanh(z/2) = 2; |phi''| <= 1/2, attained at 0.
    - huberised-relu(h), 0 | z^2/(2h) | z - h/2: |phi - z phi'| = z^2/(2h) up to h/2, then constant; phi'' = 1/h.
    - linear: the leak changes nothing.

    Raises InputError for an unknown activation, a leak outside [0, 1), or h <= 0.
    """
    c = np.asarray(leak, dtype=np.float64)[()]
    require(bool(np.all((c >= 0) & (c < 1))), f"leak must lie in [0, 1), got {leak}")
    require(bool(np.isfinite(h) and h > 0), f"width h of the Huberised ReLU must be positive and finite, got {h}")
    if activation == "softplus":
        kappa, beta, alpha, lam = np.log(2.0), 0.25, 0.0, 1.0
    elif activation == "gelu":
        z = np.sqrt(2.0)
        pdf = np.exp(-1.0) / np.sqrt(2 * np.pi)
        kappa, beta = 2 * pdf, np.sqrt(2 / np.pi)
        alpha, lam = ndtr(-z) - z * pdf, ndtr(z) + z * pdf
    elif activation == "silu":
        z = _root(lambda x: x * np.tanh(x / 2) - 2, 2.0, 3.0)
        curvature = expit(z) * expit(-z)
        kappa, beta = z**2 * curvature, 0.5
        alpha, lam = expit(-z) - z * curvature, expit(z) + z * curvature
    elif activation == "huberised-relu":
        kappa, beta, alpha, lam = h / 2, 1 / h, 0.0, 1.0
    elif activation == "linear":
        kappa, beta, alpha, lam = 0.0, 0.0, 1.0, 1.0
    else:
        raise InputError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    return ActivationConstants((1 - c) * kappa, (1 - c) * beta, c + (1 - c) * alpha, c + (1 - c) * lam)


def logistic_loss(F: Real) -> Value:
    """ell(F) = log(1 + e^{-F}), accurate in both tails."""
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        return np.logaddexp(0.0, -np.asarray(F, dtype=np.float64))


def log_logistic_loss(F: Real) -> Value:
    """log ell(F); finite where ell itself underflows (F > 745): there ell = e^{-F} (1 - e^{-F}/2 + ...)."""
    F = np.asarray(F, dtype=np.float64)
    tail = F > 36  # e^{-F} is below the rounding of 1 from here on
    return np.where(tail, -F, np.log(logistic_loss(np.where(tail, 0.0, F))))[()]


# --------------------------------------------------------------------------------------------------------------------
# Thresholds of the stable phase
# --------------------------------------------------------------------------------------------------------------------


def stable_threshold(eta: Real, n: Real, constants: ActivationConstants) -> Value:
    """Risk that certifies the stable phase: min{1/(eta (4 Lam^2 + 2 beta)), 1/(2 e^{kappa + 2} n)}.

    The first gives eta L (Lam^2 + beta/2) <= 1/4 (descent, with room), the second u(L) >= 2 (margin).
    """
    eta, n = _stepsize(eta), _samples(n)
    smooth = 1 / (eta * (4 * np.square(constants.lam) + 2 * np.asarray(constants.beta)))
    return np.minimum(smooth, 1 / (2 * np.exp(np.asarray(constants.kappa) + 2) * n))


def descent_limit(constants: ActivationConstants) -> Value:
    """Largest eta L for which descent is proved: min{1/Lam^2, 1/((e - 2) Lam^2 + beta/2)}; see `one_step_descent`."""
    lam2 = np.square(constants.lam)
    return np.minimum(1 / lam2, 1 / ((np.e - 2) * lam2 + np.asarray(constants.beta) / 2))


def linear_descent_constant() -> float:
    """Largest eta L for which descent is proved for linear predictors: the root 1.2564312 of e^q - 1 - q = q.

    No margin moves by more than q = eta G <= eta L, and e^x - 1 - x <= x^2 (e^q - 1 - q)/q^2 for x <= q, so that
    L' <= L - eta (1 - eta G (e^q - 1 - q)/q^2) ||grad L||^2 <= L as long as (e^q - 1 - q)/q <= 1.
    """
    return _root(lambda q: np.expm1(q) - 2 * q, 1.0, 2.0)


def one_step_descent(
    risk: Real, slope: Real, grad_norm2: Real, eta: Real, m: Real, constants: ActivationConstants
) -> Value:
    """Upper bound on the next risk, where eta Lam^2 G <= 1: L - eta m (1 - eta G ((e-2) Lam^2 + beta/2)) ||grad L||^2.

    `slope` is G and `grad_norm2` is ||grad L||_F^2 over all of W. ell(F + d) - ell(F) = log(1 + p (e^{-d} - 1))
    <= p (-d + (e - 2) d^2) for |d| <= 1; |d| <= rho ||W' - W|| <= eta Lam^2 G, with rho = Lam/sqrt(m) the Lipschitz
    constant of f, and d differs from its linear part by at most (beta/(2 m)) ||W' - W||^2. NaN where eta Lam^2 G > 1.
    """
    risk, slope, eta, m = (np.asarray(v, dtype=np.float64) for v in (risk, slope, eta, m))
    lam2 = np.square(constants.lam)
    factor = 1 - eta * slope * ((np.e - 2) * lam2 + np.asarray(constants.beta) / 2)
    bound = risk - eta * m * factor * np.asarray(grad_norm2, dtype=np.float64)
    return np.where(eta * lam2 * slope <= 1, bound, np.nan)[()]


def two_point_step_ratio(C: Real, a: Real) -> Value:
    """Next over current risk of one linear step from the worst two-point state, eta -> infinity.

    The points are (g, +-1) with label +1, g -> 0; eta L = C, ell_2/ell_1 = r = e^{-a}. As eta -> infinity, ell_i = p_i
    = e^{-F_i} and the margins move by +-delta, delta = eta (ell_1 - ell_2)/2 = C (1 - r)/(1 + r) = C tanh(a/2), so the
    ratio is (e^{-delta} + r e^{delta})/(1 + r) = cosh(delta - a/2)/cosh(a/2).
    """
    C, a = np.asarray(C, dtype=np.float64), np.asarray(a, dtype=np.float64)
    r = np.exp(-a)
    delta = C * np.tanh(a / 2)
    return (np.exp(-delta) + r * np.exp(delta)) / (1 + r)


def two_point_worst_step(C: float) -> tuple[float, float]:
    """(a, sup over a > 0 of `two_point_step_ratio`); (0, 1) for C <= 2, where the supremum 1 is approached as a -> 0.

    cosh(delta - a/2) > cosh(a/2) iff delta > a, i.e. C tanh(a/2) > a, which has a solution iff C >
    `two_point_threshold()`.
    """
    require(bool(np.isfinite(C) and C > 0), f"eta L = C must be positive and finite, got {C}")
    if two_point_threshold() >= C:
        return 0.0, 1.0
    crossing = _root(lambda x: C * np.tanh(x / 2) - x, np.sqrt(1 - 2 / C) / 4, 2 * C)  # ratio = 1 again
    best = minimize_scalar(
        lambda x: -float(two_point_step_ratio(C, x)), bounds=(0.0, crossing), method="bounded", options={"xatol": 1e-12}
    )
    return float(best.x), float(two_point_step_ratio(C, best.x))


def two_point_threshold() -> float:
    """The C above which a risk increase is possible in the two-point state; no universal "eta L <= const" can exceed
    it.

    tanh(a/2) < a/2 for a > 0, with equal slopes at 0, so C tanh(a/2) > a has a solution a > 0 iff C > 2.
    """
    return 2.0


# --------------------------------------------------------------------------------------------------------------------
# Edge of stability: averages over k < t, and the time of the switch
# --------------------------------------------------------------------------------------------------------------------


def average_risk_bound(
    t: Real, eta: Real, gamma: Real, norm2: Real, alignment: Real, constants: ActivationConstants
) -> Value:
    """Bound on (1/t) sum_{k<t} L(W_k) for data separable with margin gamma in the direction w*, optimised over c1 >= 0.

    ell(c1 alpha gamma - kappa) + r^2/(2 eta t), r^2 = norm2 - 2 (c1 + c2) alignment + (c1 + c2)^2, c2 = eta Lam/(2
    gamma).

    Expand ||W_{k+1} - U||^2 with U_j = a_j (c1 + c2) w*. The c1 part: <grad F_i, a_j c1 w*> >= c1 alpha gamma and
    <grad F_i, W> <= F_i + kappa, so by convexity <grad L, U^1 - W> <= ell(c1 alpha gamma - kappa) - L. The c2 part pays
    for the squared step, neuron by neuron: with g_j = mean_i p_i phi'_ij <= Lam, -2 eta c2 gamma g_j + eta^2 g_j^2 <=
    0.

    Args:
        t: number of steps averaged over, any shape (K).
        eta, gamma, norm2, alignment, constants: one instance, or arrays of instances (S); norm2 = ||W_0||_F^2/m and
            alignment = mean_j a_j <w_0j, w*>.

    Returns:
        Shape (S, K): the shape of the instances followed by that of t. Infinite where alpha <= 0 or gamma <= 0 (the
        theorem says nothing). Every c1 >= 0 gives a valid bound, so the value never depends on the optimiser's accuracy
        for its validity.
    """
    return _optimised_bound(t, eta, gamma, norm2, alignment, constants, slope=False)


def average_slope_bound(
    t: Real, eta: Real, gamma: Real, norm2: Real, alignment: Real, constants: ActivationConstants
) -> Value:
    """Bound on (1/t) sum_{k<t} G(W_k) for data separable with margin gamma in the direction w*, optimised over c1 >= 0.

    [2 r + sqrt(2 eta t ell(c1 alpha gamma - kappa))]/(alpha gamma eta t).

    Arguments, shapes and r as in `average_risk_bound`. <W_{k+1} - W_k, (a_j w*)_j>/m >= eta alpha gamma G_k telescopes
    to ||W_t - W_0||/sqrt(m), at most ||W_t - U|| + ||W_0 - U||, and ||W_t - U||^2 <= ||W_0 - U||^2 + 2 eta m t ell(...)
    by the expansion of `average_risk_bound` with L >= 0.
    """
    return _optimised_bound(t, eta, gamma, norm2, alignment, constants, slope=True)


def average_risk_bound_closed(t: Real, eta: Real, gamma: Real, norm2: Real, constants: ActivationConstants) -> Value:
    """[1 + ((log(gamma^2 eta t) + kappa)/alpha + Lam eta/2)^2]/(gamma^2 eta t) + norm2/(eta t).

    `average_risk_bound` at c1 = (log(gamma^2 eta t) + kappa)/(alpha gamma), with r^2 <= 2 norm2 + 2 (c1 + c2)^2.
    Infinite where gamma^2 eta t < 1 (c1 must not be negative), alpha <= 0 or gamma <= 0. Shapes as there.
    """
    i = _instances(t, eta, gamma, norm2, constants)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = (np.log(i.scale) + i.kappa) / i.alpha + i.lam * i.eta / 2
        bound = (1 + root**2) / i.scale + i.norm2 / (i.eta * i.t)
    return _no_bound(i.excluded, bound)


def average_risk_bound_closed_linear(t: Real, eta: Real, gamma: Real) -> Value:
    """1/(gamma^2 eta t) + (log(gamma^2 eta t) + eta/2)^2/(2 gamma^2 eta t): linear predictor from W_0 = 0.

    There r^2 = (c1 + c2)^2 exactly, which saves the factor 2 of `average_risk_bound_closed`. Infinite where it is.
    """
    i = _instances(t, eta, gamma, 0.0, activation_constants("linear"))
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = (1 + (np.log(i.scale) + i.eta / 2) ** 2 / 2) / i.scale
    return _no_bound(i.excluded, bound)


def average_risk_bound_paper(t: Real, eta: Real, gamma: Real, norm2: Real, constants: ActivationConstants) -> Value:
    """The network paper's form of `average_risk_bound_closed`, as recalled, for Lam = 1; infinite where that is.

    [1 + 8 log^2(gamma^2 eta t)/alpha^2 + 8 kappa^2/alpha^2 + eta^2]/(gamma^2 eta t) + norm2/(eta t), which the closed
    form implies for Lam <= sqrt 2.
    """
    i = _instances(t, eta, gamma, norm2, constants)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = 8 * (np.log(i.scale) ** 2 + i.kappa**2) / i.alpha**2 + i.eta**2
        bound = (1 + squares) / i.scale + i.norm2 / (i.eta * i.t)
    return _no_bound(i.excluded, bound)


def average_slope_bound_closed(t: Real, eta: Real, gamma: Real, norm2: Real, constants: ActivationConstants) -> Value:
    """[2 (log(gamma^2 eta t) + kappa)/alpha + Lam eta + sqrt 2 + 2 gamma sqrt(norm2)]/(alpha gamma^2 eta t).

    `average_slope_bound` at the c1 of `average_risk_bound_closed`, with r <= sqrt(norm2) + c1 + c2. Infinite where that
    is.
    """
    i = _instances(t, eta, gamma, norm2, constants)
    with np.errstate(divide="ignore", invalid="ignore"):
        path = 2 * (np.log(i.scale) + i.kappa) / i.alpha + i.lam * i.eta + 2 * i.gamma * np.sqrt(i.norm2)
        bound = (path + np.sqrt(2.0)) / (i.alpha * i.scale)
    return _no_bound(i.excluded, bound)


def transition_time_bound(
    eta: Real, n: Real, gamma: Real, norm2: Real, alignment: Real, constants: ActivationConstants
) -> Value:
    """tau: the smallest real t with `average_slope_bound`(t) <= `stable_threshold`/1.036.

    The risk falls under the threshold before tau. Broadcasts over instances; infinite where alpha <= 0 or gamma <= 0.

    Some k < t has G_k <= thr/1.036, so n G_k <= .0653 and L_k <= 1.036 G_k <= thr (`SLOPE_TO_RISK`). At fixed c1 the
    bound on G falls in t, hence so does its minimum over c1, and bisection (in log t) is safe.
    """
    shape, level, steps, margin, size, overlap, *fields = _transition(eta, n, gamma, norm2, alignment, constants)
    k = ActivationConstants(*fields)

    def excess(log_t: np.ndarray) -> np.ndarray:  # one t per instance: no product of instances with times
        return _optimised(np.exp(log_t), steps, margin, size, overlap, k, slope=True) - level

    excluded = (fields[2] <= 0) | (margin <= 0)
    tau = np.where(excluded, np.inf, np.exp(_first_crossing(excess, np.full(level.shape, -20.0), ~excluded)))
    return tau.reshape(shape)[()]


def transition_time_bound_closed(eta: Real, n: Real, gamma: Real, norm2: Real, constants: ActivationConstants) -> Value:
    """Smallest t >= 1/(gamma^2 eta) with `average_slope_bound_closed`(t) <= `stable_threshold`/1.036.

    Valid for the same reason as `transition_time_bound`, and larger. Infinite where alpha <= 0 or gamma <= 0.

    The closed form rises at most up to gamma^2 eta t = e and falls from there on, so it crosses a level under its value
    at gamma^2 eta t = 1 once.
    """
    shape, level, steps, margin, size, _, kappa, _, slope, lam = _transition(eta, n, gamma, norm2, 0.0, constants)
    excluded = (slope <= 0) | (margin <= 0)
    alpha, margin = np.where(excluded, 1.0, slope), np.where(excluded, 1.0, margin)
    rest = 2 * kappa / alpha + lam * steps + np.sqrt(2.0) + 2 * margin * np.sqrt(size)

    def excess(log_x: np.ndarray) -> np.ndarray:  # x = gamma^2 eta t
        return (2 * log_x / alpha + rest) / (alpha * np.exp(log_x)) - level

    log_x = _first_crossing(excess, np.zeros(level.shape), ~excluded)
    tau = np.where(excluded, np.inf, np.exp(log_x) / (margin**2 * steps))
    return tau.reshape(shape)[()]


def transition_time_paper_linear(eta: Real, n: Real, gamma: Real) -> Value:
    """Wu et al., as recalled, for W_0 = 0 and the threshold min(1/eta, log(2)/n).

    (60/gamma^2) max(eta, n, e, q log q), q = n/eta.
    """
    eta, n = _stepsize(eta), _samples(n)
    q = n / eta
    largest = np.maximum(np.maximum(eta, n), np.maximum(np.e, q * np.log(q)))
    return 60 / np.square(np.asarray(gamma, dtype=np.float64)) * largest


def transition_time_paper(eta: Real, n: Real, gamma: Real, norm2: Real, constants: ActivationConstants) -> Value:
    """Network paper, as recalled: 128 (1 + 4 kappa)/(alpha gamma)^2 max{c2 eta, c1 n, e, q log q, q sqrt(norm2)}.

    c1 = 4 e^{kappa + 2}, c2 = 8 + 4 beta, q = (c2 eta + c1 n)/eta. Looser than `transition_time_bound`.
    """
    eta, n = _stepsize(eta), _samples(n)
    kappa, beta, alpha, _ = (np.asarray(v) for v in constants)
    c1, c2 = 4 * np.exp(kappa + 2), 8 + 4 * beta
    q = (c2 * eta + c1 * n) / eta
    terms = (c2 * eta, c1 * n, np.e, q * np.log(q), q * np.sqrt(np.asarray(norm2, dtype=np.float64)))
    largest = np.max(np.stack(np.broadcast_arrays(*terms)), axis=0)
    with np.errstate(divide="ignore"):
        tau = 128 * (1 + 4 * kappa) / np.square(alpha * np.asarray(gamma, dtype=np.float64)) * largest
    return _no_bound((alpha <= 0) & ~np.isnan(tau), tau)


# --------------------------------------------------------------------------------------------------------------------
# Stable phase: margins and the risk sandwich
# --------------------------------------------------------------------------------------------------------------------


def guaranteed_margin(risk: Real, n: Real, constants: ActivationConstants) -> Value:
    """u(L) = log(1/(2 n L)) - kappa, a lower bound on min F_i - kappa once n L <= 1.25; +inf at L = 0.

    ell(F_i) <= n L, so F_i >= -log(e^{nL} - 1), and e^x - 1 <= 2 x for x <= 1.25. At the stable threshold u >= 2.
    """
    with np.errstate(divide="ignore"):
        return -np.log(2 * _samples(n) * np.asarray(risk, dtype=np.float64)) - np.asarray(constants.kappa)


def correction_constant(n: Real, eta: Real, constants: ActivationConstants) -> Value:
    """C = (4/3) (n + eta (Lam^2 + beta/2)) of the modified margin; see `log_modified_margin`."""
    return 4 / 3 * (_samples(n) + _stepsize(eta) * (np.square(constants.lam) + np.asarray(constants.beta) / 2))


def log_modified_margin(risk: Real, norm: Real, n: Real, eta: Real, constants: ActivationConstants) -> Value:
    """log gc, gc = (u(L)/||W||_F) exp(-C L/u(L)): nondecreasing in the stable phase, with gc <= min_i F_i/||W||_F.

    With Phi(x) = log u - C x/u, convex where C x <= .43 and u >= 2, and |Phi'| >= (1 + C x)/(x u): the gain of Phi(L)
    in a step is at least (1 + C L)/(L u) eta m (1 - eta L ((e-2) Lam^2 + beta/2)) ||grad L||^2, and log ||W|| grows by
    at most eta m (1/(G u) + eta Lam^2/(2 u^2)) ||grad L||^2. L/G <= 1 + n L and eta L (Lam^2 + beta/2) <= 1/4 leave a
    surplus of eta L Lam^2 (3 - e - 1/4) > 0. NaN where u <= 0 (the risk is too large for gc to be defined).
    """
    risk = np.asarray(risk, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        u = np.asarray(guaranteed_margin(risk, n, constants))
        u = np.where(u > 0, u, np.nan)
        value = np.log(u) - correction_constant(n, eta, constants) * risk / u
        return (value - np.log(np.asarray(norm, dtype=np.float64)))[()]


def modified_margin(risk: Real, norm: Real, n: Real, eta: Real, constants: ActivationConstants) -> Value:
    """gc = exp(`log_modified_margin`); sqrt(m) gc does not depend on the width."""
    return np.exp(log_modified_margin(risk, norm, n, eta, constants))


class MarginSandwich(NamedTuple):
    """gc <= lower <= min_i F_i/||W||_F <= upper = ratio * gc.

    lower: u(L)/||W||_F.
    upper: log(1/L)/||W||_F, since L <= e^{-min F}.
    ratio: upper/gc = (log(1/L)/u) exp(C L/u) = 1 + O(1/log(1/L)).
    """

    lower: Value
    upper: Value
    ratio: Value


def margin_sandwich(risk: Real, norm: Real, n: Real, eta: Real, constants: ActivationConstants) -> MarginSandwich:
    """The two-sided bound on the normalised margin in the stable phase; see `MarginSandwich`. NaN where u <= 0."""
    norm = np.asarray(norm, dtype=np.float64)
    u = np.asarray(guaranteed_margin(risk, n, constants))
    u = np.where(u > 0, u, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_inverse = -np.log(np.asarray(risk, dtype=np.float64))
        upper = log_inverse / norm
    return MarginSandwich((u / norm)[()], upper, 1 / near_monotone_factor(risk, n, eta, constants))


def near_monotone_factor(risk_r: Real, n: Real, eta: Real, constants: ActivationConstants) -> Value:
    """(u_r/log(1/L_r)) exp(-C L_r/u_r): the margin at every t >= r is at least this times the margin at r.

    gbar_t >= gc_t >= gc_r, and gc_r = factor * log(1/L_r)/||W_r|| >= factor * gbar_r. NaN where u_r <= 0; 1 at L_r = 0.
    """
    risk = np.asarray(risk_r, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.asarray(guaranteed_margin(risk, n, constants))
        u = np.where(u > 0, u, np.nan)
        factor = u / -np.log(risk) * np.exp(-correction_constant(n, eta, constants) * risk / u)
    return np.where(risk == 0, 1.0, factor)[()]


def fastest_growth(constants: ActivationConstants) -> Value:
    """(4/3) Lam^2: the most by which 1/L can grow per unit of eta t once the risk is under the stable threshold.

    ell is convex, so L' >= L (1 - x), x = eta Lam^2 L (1 + eta L beta/2), and 1/L' - 1/L <= eta Lam^2 (1 + eta L
    beta/2)/(1-x), largest (4/3) at beta = 0, eta L Lam^2 = 1/4.
    """
    return (4 / 3 * np.square(np.asarray(constants.lam, dtype=np.float64)))[()]


def slowest_growth(m: Real, gc_s: Real) -> Value:
    """.7 m gc_s^2: the least by which 1/L grows per unit of eta t from s on, gc_s the modified margin at s.

    ||grad L|| >= <-grad L, W>/||W|| >= G u/||W|| >= G gc, and one step gains eta m (1 - eta G ((e-2) Lam^2 + beta/2))
    G^2 gc^2. Under the threshold eta L ((e-2) Lam^2 + beta/2) <= 1/4 and L/G <= 1.0342, so the factor of L^2 is at
    least (1 - .25/1.0342)/1.0342^2 = .709. No separability needed.
    """
    return (0.7 * np.asarray(m, dtype=np.float64) * np.square(np.asarray(gc_s, dtype=np.float64)))[()]


def slowest_growth_separable(gamma: Real, constants: ActivationConstants) -> Value:
    """.7 alpha^2 gamma^2: `slowest_growth` from ||grad L|| >= <-grad L, (a_j w*)_j>/sqrt(m) >= alpha gamma G/sqrt(m).

    Zero where alpha <= 0 or gamma <= 0 (nothing is guaranteed).
    """
    gamma, alpha = np.asarray(gamma, dtype=np.float64), np.asarray(constants.alpha, dtype=np.float64)
    return np.where((alpha > 0) & (gamma > 0), 0.7 * np.square(alpha * gamma), 0.0)[()]


def risk_lower_bound(elapsed: Real, risk_s: Real, eta: Real, constants: ActivationConstants) -> Value:
    """1/(1/L_s + (4/3) eta Lam^2 (t - s)), `elapsed` = t - s and L_s under the stable threshold; `fastest_growth`."""
    return _inverse_growth(elapsed, risk_s, _stepsize(eta) * fastest_growth(constants))


def risk_upper_bound(elapsed: Real, risk_s: Real, eta: Real, m: Real, gc_s: Real) -> Value:
    """1/(1/L_s + .7 eta m gc_s^2 (t - s)); `slowest_growth`."""
    return _inverse_growth(elapsed, risk_s, _stepsize(eta) * slowest_growth(m, gc_s))


def risk_upper_bound_separable(
    elapsed: Real, risk_s: Real, eta: Real, gamma: Real, constants: ActivationConstants
) -> Value:
    """1/(1/L_s + .7 alpha^2 gamma^2 eta (t - s)), infinite unless alpha, gamma > 0; `slowest_growth_separable`."""
    rate = slowest_growth_separable(gamma, constants)
    return _no_bound(rate == 0, _inverse_growth(elapsed, risk_s, _stepsize(eta) * rate))


# --------------------------------------------------------------------------------------------------------------------
# Limits with closed-form constants
# --------------------------------------------------------------------------------------------------------------------


def xor_constant(counts: Shaped[np.ndarray, "*batch 4"], leak: Real, m: Real) -> Value:
    """lim eta t L on XOR: m S/(1 - c)^2, S = 1/p1 + 1/p2 + 1/q1 + 1/q2.

    counts = (p1, p2, q1, q2): neurons with a = +1 that end nearest +(1,1)/sqrt 2 and -(1,1)/sqrt 2, and with a = -1
    nearest +-(1,-1)/sqrt 2; the data are x = (+-1,+-1)/sqrt 2, y = sign(x_1 x_2). Infinite if a group is empty.

    eta t m gbar^2 L -> 1 (dL/dt = -eta m gbar^2 L^2). If groups have total lengths R1, R2, the two margins of a class
    are (R1 - c R2)/m and (R2 - c R1)/m: both constraints of the max-margin problem bind, R1 = R2 = R, F = (1 - c) R/m
    at ||W||^2 = R^2 S. The direction is stationary for all counts: the two multipliers of a class have the ratio
    (r + c)/(1 + c r), r the ratio of its group sizes, which lies in (c, 1/c), so that slopes within [c, 1] at the kink
    keep the neurons of the other class on their axis.
    """
    counts = np.asarray(counts, dtype=np.float64)
    require(counts.shape[-1:] == (4,), f"counts must have last axis 4 (p1, p2, q1, q2), got shape {counts.shape}")
    with np.errstate(divide="ignore"):
        total = np.sum(1 / counts, axis=-1)
    return np.asarray(m, dtype=np.float64) * total / np.square(1 - np.asarray(leak, dtype=np.float64))


def xor_margin(counts: Shaped[np.ndarray, "*batch 4"], leak: Real, m: Real) -> Value:
    """Limit of the width-free margin sqrt(m) min_i F_i/||W||_F on XOR: (1 - c)/sqrt(m S); see `xor_constant`."""
    return 1 / np.sqrt(xor_constant(counts, leak, m))


def one_sample_margin2(m_plus: Real, m_minus: Real, leak: Real) -> Value:
    """Limit of the squared width-free margin on one unit-norm sample: (m_+ + c^2 m_-)/m.

    Neurons with a y = +1 grow towards the sample (slope 1), the m_- others away from it (slope c): the gradient of F
    has squared norm (m_+ + c^2 m_-)/m^2.
    """
    m_plus, m_minus = np.asarray(m_plus, dtype=np.float64), np.asarray(m_minus, dtype=np.float64)
    return (m_plus + np.square(np.asarray(leak, dtype=np.float64)) * m_minus) / (m_plus + m_minus)


def margin_limit_constants(p: float, q: float) -> tuple[float, float]:
    """(b, q b) for the linear predictor on x_1 = (gamma, p), x_2 = (gamma, -q), y = 1, p > q > 0; b = log(p/q)/(p + q).

    w_2 -> b, where the pull p e^{-p w_2} of the first point balances q e^{q w_2} of the second; then min F = gamma w_1
    - q b and (gamma - gbar_t) ||w_t|| -> q b, for every stepsize.
    """
    require(bool(p > q > 0), f"p and q must satisfy p > q > 0, got p = {p}, q = {q}")
    b = float(np.log(p / q) / (p + q))
    return b, q * b


def acceleration_stepsize(gamma: Real, T: Real) -> Value:
    """eta = gamma^2 T/120: proportional to the budget T (Wu et al.)."""
    return np.square(np.asarray(gamma, dtype=np.float64)) * np.asarray(T, dtype=np.float64) / 120


def acceleration_constant(gamma: Real, leak: Real | None = None) -> Value:
    """lim T^2 L(W_T) at `acceleration_stepsize` on the two-point data x = (gamma, p), (gamma, -q), y = 1.

    120/gamma^4 for the linear predictor (leak None), 240/(gamma^4 (1 + c^2)) for the leaky network with m = 2, a = (+1,
    -1).

    L -> 1/(eta Gam^2 T), with Gam^2 = gamma^2, respectively gamma^2 (1 + c^2)/2: the neuron with a = -1 runs on slope c
    (`one_sample_margin2` with one neuron of each sign).
    """
    margin2 = 1.0 if leak is None else one_sample_margin2(1, 1, leak)
    return 120 / (np.asarray(gamma, dtype=np.float64) ** 4 * margin2)


MONOTONE_SCALED_RISK = 0.63
"""t L(w_t) of monotone runs on the two-point data (p = .9, q = .5, gamma <= .1, w_0 = 0) is at least this; numerical, the
smallest found being .635 at gamma = .1."""


def largest_monotone_stepsize(gamma: Real, p: float = 0.9, q: float = 0.5) -> Value:
    """eta_1: every eta > eta_1 gives L(w_1) > L(w_0) on x_1 = (gamma, p), x_2 = (gamma, -q), y = 1, linear, w_0 = 0.

    w_1 = eta (gamma/2, (p - q)/4), so eta_1 is the positive root of ell(eta A) + ell(-eta B) = 2 log 2 with
    A = gamma^2/2 + p (p - q)/4 and B = q (p - q)/4 - gamma^2/2. The left side is convex in eta, starts at 2 log 2 and
    falls first, so the root is unique; it exists iff B > 0, otherwise eta_1 is infinite. Newton's iteration from above
    falls to it monotonically, since the left side is convex.
    """
    gamma = np.asarray(gamma, dtype=np.float64)
    require(bool(np.all(gamma >= 0)), f"margin gamma must not be negative, got {np.min(gamma)}")
    require(bool(p > q > 0), f"p and q must satisfy p > q > 0, got p = {p}, q = {q}")
    A, B = gamma**2 / 2 + p * (p - q) / 4, q * (p - q) / 4 - gamma**2 / 2
    exists = B > 0
    B = np.where(exists, B, 1.0)
    eta = 2 * np.log(2.0) / B  # ell(-x) > x makes the left side exceed 2 log 2 here
    for _ in range(100):
        excess = logistic_loss(eta * A) + logistic_loss(-eta * B) - 2 * np.log(2.0)
        slope = B / (1 + np.exp(-eta * B)) - A / (1 + np.exp(eta * A))
        following = eta - excess / slope
        if np.all(following >= eta):  # no further fall: rounding
            break
        eta = np.minimum(following, eta)
    return np.where(exists, eta, np.inf)[()]


# --------------------------------------------------------------------------------------------------------------------
# Shared steps
# --------------------------------------------------------------------------------------------------------------------


def _root(f: Callable[[float], Any], lo: float, hi: float) -> float:
    """Root in [lo, hi] to the last digits of float64."""
    return float(cast(float, brentq(f, lo, hi, xtol=1e-15)))


def _stepsize(eta: Real) -> np.ndarray:
    values = np.asarray(eta, dtype=np.float64)
    if np.any(values <= 0):
        raise InputError(f"step size eta must be positive, got {np.min(values)}")
    return values


def _samples(n: Real) -> np.ndarray:
    values = np.asarray(n, dtype=np.float64)
    if np.any(values < 1):
        raise InputError(f"number of samples n must be at least 1, got {np.min(values)}")
    return values


def _times(t: Real) -> np.ndarray:
    values = np.asarray(t, dtype=np.float64)
    if np.any(values <= 0):
        raise InputError(f"number of steps t must be positive, got {np.min(values)}")
    return values


def _no_bound(where: ArrayLike, bound: ArrayLike) -> Value:
    """The bound, infinite where the theorem says nothing; NaN inputs stay NaN."""
    return np.where(where, np.inf, bound)[()]


def _inverse_growth(elapsed: Real, risk_s: Real, rate: Value) -> Value:
    """1/(1/L_s + rate (t - s)), exact at L_s = 0."""
    risk_s = np.asarray(risk_s, dtype=np.float64)
    return risk_s / (1 + risk_s * rate * np.asarray(elapsed, dtype=np.float64))


class _Instances(NamedTuple):
    """Instances with an axis of length one for each axis of t, so that their products have shape (instances, times)."""

    t: np.ndarray
    eta: np.ndarray
    gamma: np.ndarray
    norm2: np.ndarray
    kappa: np.ndarray
    alpha: np.ndarray
    lam: np.ndarray

    @property
    def scale(self) -> Value:
        """gamma^2 eta t."""
        return self.gamma**2 * self.eta * self.t

    @property
    def excluded(self) -> np.ndarray:
        """Where the closed forms say nothing."""
        return np.asarray((self.scale < 1) | (self.alpha <= 0) | (self.gamma <= 0))


def _instances(t: Real, eta: Real, gamma: Real, norm2: Real, constants: ActivationConstants) -> _Instances:
    times = _times(t)
    parts = (_stepsize(eta), gamma, norm2, constants.kappa, constants.alpha, constants.lam)
    arrays = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in parts))
    return _Instances(times, *(v.reshape(v.shape + (1,) * times.ndim) for v in arrays))


def _transition(
    eta: Real, n: Real, gamma: Real, norm2: Real, alignment: Real, constants: ActivationConstants
) -> tuple[Any, ...]:
    """The shape of the instances, the level that the average of G must reach, and the instances and constants, flat."""
    level = np.asarray(stable_threshold(eta, n, constants)) / SLOPE_TO_RISK
    parts = (level, eta, gamma, norm2, alignment, *constants)
    arrays = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in parts))
    return arrays[0].shape, *(v.ravel() for v in arrays)


def _first_crossing(excess: Callable[[np.ndarray], np.ndarray], lo: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """Where a function of log t falls to zero, by bisection, elementwise; lo where it is not positive there already."""
    hi = lo + 40.0
    for _ in range(60):
        short = possible & (excess(hi) > 0)
        if not short.any():
            break
        hi = np.where(short, hi + 10.0, hi)
    hi = np.where(excess(lo) <= 0, lo, hi)
    for _ in range(60):  # the width, at most 640, falls below the rounding of log t
        middle = (lo + hi) / 2
        reached = excess(middle) <= 0
        lo, hi = np.where(reached, lo, middle), np.where(reached, middle, hi)
    return hi


def _optimised_bound(
    t: Real, eta: Real, gamma: Real, norm2: Real, alignment: Real, constants: ActivationConstants, slope: bool
) -> Value:
    """`_optimised` for all instances and times, in blocks of instances that fit the processor's cache."""
    times = _times(t)
    parts = (_stepsize(eta), gamma, norm2, alignment, *constants)
    arrays = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in parts))
    columns = [v.reshape(-1, 1) for v in arrays]
    bound = np.empty((arrays[0].size, times.size))
    block = max(1, 2**14 // max(1, times.size))
    for first in range(0, bound.shape[0], block):
        rows = slice(first, first + block)
        step, margin, size, overlap, kappa, beta, alpha, lam = (v[rows] for v in columns)
        k = ActivationConstants(kappa, beta, alpha, lam)
        bound[rows] = _optimised(times.reshape(1, -1), step, margin, size, overlap, k, slope=slope)
    return bound.reshape(arrays[0].shape + times.shape)[()]


def _optimised(
    t: np.ndarray,
    eta: np.ndarray,
    gamma: np.ndarray,
    norm2: np.ndarray,
    alignment: np.ndarray,
    k: ActivationConstants,
    slope: bool,
) -> Value:
    """Minimum over c1 >= 0 of the bound on the average of G (`slope`) or of L, elementwise over broadcasting arrays.

    In z = c1 alpha gamma - kappa, with c = c1 + c2, v^2 = norm2 - alignment^2 and r^2 = (c - alignment)^2 + v^2, the
    derivative vanishes where, in logarithms,
        log(c - alignment) + log(1 + e^z) = log(alpha gamma eta t)                                          (risk)
        log((c - alignment)/r) + log(1 + e^z) + log(ell(z))/2 = log(alpha gamma sqrt(eta t/8))               (slope)
    Left sides increase in z: both objectives are convex (the second for z >= -.92, where 2 ell ell'' >= ell'^2; below
    that it is concave, so its minimum is there at c1 = 0). The value at c1 = 0 is always compared.
    """
    excluded = (np.asarray(k.alpha) <= 0) | (gamma <= 0)
    ag = np.where(excluded, 1.0, k.alpha * gamma)
    gamma = np.where(excluded, 1.0, gamma)
    c2 = eta * k.lam / (2 * gamma)
    v2 = np.maximum(norm2 - alignment**2, 0.0)
    eta_t = eta * t

    def distance(z: np.ndarray) -> np.ndarray:
        return (z + k.kappa) / ag + (c2 - alignment)

    def objective(z: np.ndarray) -> np.ndarray:
        r2 = distance(z) ** 2 + v2
        loss = np.asarray(logistic_loss(z))
        if slope:
            return (2 * np.sqrt(r2) + np.sqrt(2 * eta_t * loss)) / (ag * eta_t)
        return loss + r2 / (2 * eta_t)

    level = np.log(ag) + (np.log(eta_t / 8) / 2 if slope else np.log(eta_t))

    def condition(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gap = distance(z)
        e = np.exp(-np.abs(z))
        log_p = np.minimum(-z, 0.0) - np.log1p(e)  # p = 1/(1 + e^z)
        s = np.where(z >= 0, 1.0, e) / (1 + e)
        if not slope:
            return np.log(gap) - log_p - level, 1 / (gap * ag) + s
        loss = np.maximum(-z, 0.0) + np.log1p(e)
        r2 = gap**2 + v2
        value = np.log(gap) - np.log(r2) / 2 - log_p + np.log(loss) / 2 - level
        return value, v2 / (gap * r2 * ag) + s - (1 - s) / (2 * loss)

    start = -k.kappa + 0 * eta_t
    aligned = -k.kappa + (alignment - c2) * ag  # c = alignment: no root on its left
    lo = np.maximum(start, aligned)
    if slope:
        lo = np.maximum(lo, -0.92)
        hi = np.maximum(np.log(ag**2 * eta_t / 4), aligned + np.sqrt(v2) * ag)
    else:
        hi = np.minimum(
            np.maximum(np.log(ag**2 * eta_t), aligned + 1),
            aligned + ag**2 * eta_t * expit(-lo),
        )
    hi = np.maximum(lo, hi)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = _increasing_root(condition, lo, hi)
    return _no_bound(excluded, np.minimum(objective(start), objective(z)))


def _increasing_root(
    condition: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    lo: np.ndarray,
    hi: np.ndarray,
    tolerance: float = 1e-8,
    iterations: int = 100,
) -> np.ndarray:
    """Root in [lo, hi] of an increasing function, elementwise: Newton's method, safeguarded by bisection.

    `condition` returns value and derivative. Where the function is positive throughout, the result is lo. The tolerance
    is on the root: its square bounds the loss at a minimum.
    """
    hi = np.where(condition(lo)[0] >= 0, lo, hi)
    z = (lo + hi) / 2
    moved = hi - lo
    for _ in range(iterations):
        value, derivative = condition(z)
        right = value > 0
        lo, hi = np.where(right, lo, z), np.where(right, z, hi)
        newton = z - value / derivative
        # a Newton step must stay inside and at least halve the previous move; otherwise bisection, which cannot stall
        close = tolerance * (1 + np.abs(z))
        good = (newton >= lo) & (newton <= hi) & (np.abs(newton - z) <= np.maximum(moved / 2, close))
        new = np.where(good, newton, (lo + hi) / 2)
        moved = np.abs(new - z)
        z = new
        if not np.any(moved > close):
            break
    return z
