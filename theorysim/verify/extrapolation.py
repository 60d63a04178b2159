"""Extrapolation in size: linear functionals with fixed weights, a hull over declared models, Richardson on exact data.

Weights never come from the data that they weigh, and no model is chosen by its fit: the p-value of a claim is the
largest over the declared models, so that if any of them is right both error rates hold. Size enters as x = log n, in
which n^-a = exp(-a x); exponential rates use x = t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy import special

from theorysim.errors import require
from theorysim.verify.primitive import PValues, moments, p_values, t_quantile

LACK_OF_FIT = 1e-5
"""A model whose lack-of-fit p-value is below this is dropped; none left: the declared order is wrong."""


class LinearModel(NamedTuple):
    """A linear functional of the values at the sizes, exact when the values follow the model.

    name: for the report.
    used: shape (sizes,), which sizes the model is fitted to.
    weights: shape (sizes,), zero where not used; the functional is sum_k weights_k y_k.
    contrasts: shape (q, sizes), combinations whose mean is 0 under the model; q = sizes used - parameters.
    coefficient: shape (sizes,), weights of the first correction's coefficient (None without a correction).
    decay: exponent of that correction in x.
    """

    name: str
    used: np.ndarray
    weights: np.ndarray
    contrasts: np.ndarray
    coefficient: np.ndarray | None = None
    decay: float = 0.0


def linear_model(
    name: str,
    columns: Float[np.ndarray, "sizes parameters"],
    sd: Float[np.ndarray, " sizes"],
    used: Bool[np.ndarray, " sizes"],
    *,
    target: int = 0,
    correction: int | None = None,
    decay: float = 0.0,
) -> LinearModel:
    """Weighted least squares on the sizes `used`, `sd` the declared spread; the functional is parameter `target`."""
    sizes, parameters = columns.shape
    rows = np.flatnonzero(used)
    require(len(rows) >= parameters, f"model {name} needs at least {parameters} sizes, got {len(rows)}")
    scale = sd[rows, None]
    q, r = np.linalg.qr(columns[rows] / scale, mode="complete")
    solution = np.linalg.solve(r[:parameters], q[:, :parameters].T) / scale.T
    estimators, contrasts = np.zeros((parameters, sizes)), np.zeros((len(rows) - parameters, sizes))
    estimators[:, rows] = solution
    contrasts[:, rows] = (q[:, parameters:] / scale).T
    coefficient = None if correction is None else estimators[correction]
    return LinearModel(name, used, estimators[target], contrasts, coefficient, decay)


def _grid(declared: tuple[float, ...], points: int) -> tuple[float, ...]:
    """One declared order as it is; a range (lo, hi) as a grid."""
    return declared if len(declared) == 1 else tuple(np.linspace(declared[0], declared[1], points))


@lru_cache(maxsize=256)
def limit_models(
    x: tuple[float, ...],
    orders: tuple[float, ...],
    next_orders: tuple[float, ...] | None = None,
    sd_decay: float = 0.5,
) -> tuple[LinearModel, ...]:
    """Models of a limit theta + A n^-a (+ C n^-b), x = log n increasing: for each a of 5 over a declared range,
    {1, n^-a} without the smallest size, and {1, n^-a, n^-b} on all, b = 2a unless declared. Spread ~ n^-sd_decay.
    """
    grid = np.array(x)
    sd = np.exp(-sd_decay * (grid - grid[0]))
    everywhere, without_smallest = np.ones(len(x), bool), np.arange(len(x)) >= 1

    def columns(*decays: float) -> np.ndarray:
        return np.stack([np.exp(-decay * grid) for decay in (0.0, *decays)], 1)

    models = []
    for a in _grid(orders, 5):
        models.append(linear_model(f"n^-{a:g}, largest sizes", columns(a), sd, without_smallest))
        for b in (2 * a,) if next_orders is None else _grid(next_orders, 5):
            if b != a:
                models.append(linear_model(f"n^-{a:g} + n^-{b:g}", columns(a, b), sd, everywhere))
    return tuple(models)


class RateFamily(NamedTuple):
    """A model of a slope, leaving out none, one, two ... of the smallest sizes; one member is used.

    pilots: for each member the model whose correction coefficient says whether the member's sizes are large enough;
        None where no correction is fitted.
    """

    members: tuple[LinearModel, ...]
    pilots: tuple[LinearModel, ...] | None


@lru_cache(maxsize=256)
def rate_models(x: tuple[float, ...], correction: tuple[float, ...] | None) -> tuple[RateFamily, ...]:
    """Models of a slope of log y in x, equal spread.

    Without a correction: {2 parameters, all sizes}, {2 parameters, largest half}. With a correction of order b (4 over
    a declared range): {x, e^-bx} without the smallest size and {x, e^-bx, e^-2bx} on all; the last term because the
    logarithm makes it. The former is the pilot of both: the latter's own coefficient is too noisy.
    """
    grid = np.array(x)
    sizes = len(x)
    sd = np.ones(sizes)

    def member(name: str, decays: tuple[float, ...], first: int) -> LinearModel:
        columns = np.stack([np.ones(sizes), grid, *(np.exp(-decay * (grid - grid[0])) for decay in decays)], 1)
        used = np.arange(sizes) >= first
        return linear_model(
            name, columns, sd, used, target=1, correction=2 if decays else None, decay=decays[0] if decays else 0.0
        )

    if correction is None:
        every, half = member("power law, all sizes", (), 0), member("power law, largest half", (), sizes // 2)
        return RateFamily((every,), None), RateFamily((half,), None)
    families = []
    # one size more than parameters, so that lack of fit can be seen
    skips = range(sizes - 4)
    for b in _grid(correction, 4):
        two = tuple(member(f"n^-{b:g}, largest sizes", (b,), k + 1) for k in skips)
        three = tuple(member(f"n^-{b:g} + n^-{2 * b:g}", (b, 2 * b), k) for k in skips)
        families += [RateFamily(two, two), RateFamily(three, two)]
    return tuple(families)


class Functional(NamedTuple):
    """A model's estimate, s.e., degrees of freedom and lack-of-fit p-value (1 where the model has no freedom left)."""

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray
    lack_of_fit: np.ndarray


def _f_tail(residual: np.ndarray, covariance: np.ndarray, factor: float, q: int, df: ArrayLike) -> np.ndarray:
    """P(F >= r' C^-1 r * factor) for F(q, df)."""
    try:
        solved = np.linalg.solve(covariance, residual[..., None])[..., 0]
    except np.linalg.LinAlgError:  # values without spread: no test, and a nan drops the model
        return np.full(residual.shape[:-1], np.nan)
    return special.fdtrc(q, df, np.maximum((residual * solved).sum(-1) * factor, 0.0))


def independent_sizes(
    model: LinearModel,
    means: Float[np.ndarray, "... sizes"],
    variances: Float[np.ndarray, "... sizes"],
    seeds: Float[np.ndarray, " sizes"],
) -> Functional:
    """Sizes with seeds of their own: `variances` are those of the means; Welch-Satterthwaite degrees of freedom."""
    parts = model.weights**2 * variances
    se2 = parts.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = se2**2 / (parts**2 / (seeds - 1)).sum(-1)
    q = len(model.contrasts)
    estimate = means @ model.weights
    if q == 0:
        return Functional(estimate, np.sqrt(se2), df, np.ones_like(se2))
    residual = means @ model.contrasts.T
    covariance = np.einsum("ik,...k,jk->...ij", model.contrasts, variances, model.contrasts)
    freedom = (seeds - 1)[model.used].sum()
    return Functional(estimate, np.sqrt(se2), df, _f_tail(residual, covariance, 1 / q, q, freedom))


def shared_seeds(model: LinearModel, values: Float[np.ndarray, "... seeds sizes"]) -> Functional:
    """Every seed runs all sizes: the functional of each seed, t over seeds; lack of fit by Hotelling's T^2."""
    seeds = values.shape[-2]
    sample = moments(values @ model.weights)
    df = np.full_like(sample.se, seeds - 1)
    q = len(model.contrasts)
    if q == 0 or seeds <= q:
        return Functional(sample.mean, sample.se, df, np.ones_like(sample.se))
    residuals = values @ model.contrasts.T
    mean = residuals.mean(-2)
    centred = residuals - mean[..., None, :]
    covariance = np.einsum("...si,...sj->...ij", centred, centred) / (seeds * (seeds - 1))
    lack = _f_tail(mean, covariance, (seeds - q) / (q * (seeds - 1)), q, seeds - q)
    return Functional(sample.mean, sample.se, df, lack)


SMALL_CORRECTION = 0.3
"""Largest estimated correction |B| n^-b at the smallest size of a corrected rate model's pilot."""


def small_correction(
    family: RateFamily,
    values: Float[np.ndarray, "... sizes"],
    x: Float[np.ndarray, " sizes"],
    evaluate: Callable[[LinearModel], Functional],
) -> Functional:
    """The family's first member whose pilot estimates a correction of at most .3 at its own smallest size.

    Where none does, the lack-of-fit p-value is 0, so that the family does not survive.
    """
    result = evaluate(family.members[0])
    if family.pilots is None:
        return result
    pending = np.ones(result.se.shape, bool)
    for member, pilot in zip(family.members, family.pilots, strict=True):
        if member is not family.members[0]:
            fresh = evaluate(member)
            result = Functional(*(np.where(pending, new, old) for new, old in zip(fresh, result, strict=True)))
        assert pilot.coefficient is not None
        smallest = x[np.flatnonzero(pilot.used)[0]] - x[0]
        correction = np.abs(values @ pilot.coefficient) * np.exp(-pilot.decay * smallest)
        pending = pending & (correction > SMALL_CORRECTION)
        if not pending.any():
            break
    return result._replace(lack_of_fit=np.where(pending, 0.0, result.lack_of_fit))


class Hull(NamedTuple):
    """Decision over the models that survive the lack-of-fit gate; last axis of the arrays below is the model.

    p: largest p-values over the survivors (1 where none survives).
    survived: which models survive.
    functional: estimates of all models.
    lower, upper: union of the survivors' intervals (nan where none survives).
    worst: index of the survivor with the largest p_verified.
    """

    p: PValues
    survived: np.ndarray
    functional: Functional
    lower: np.ndarray
    upper: np.ndarray
    worst: np.ndarray


def hull(functionals: Sequence[Functional], lo: ArrayLike, hi: ArrayLike, alpha: float, bias: float = 0.0) -> Hull:
    """Largest p-values over the surviving models: both error rates hold if one of the models is right."""
    functional = Functional(*(np.stack(parts, -1) for parts in zip(*functionals, strict=True)))
    lo, hi = np.asarray(lo)[..., None], np.asarray(hi)[..., None]
    p = p_values(functional.estimate, functional.se, functional.df, lo, hi, bias)
    survived = (functional.lack_of_fit >= LACK_OF_FIT) & np.isfinite(functional.se)
    some = survived.any(-1)
    verified = np.where(some, np.where(survived, p.verified, -1.0).max(-1), 1.0)
    refuted = np.where(some, np.where(survived, p.refuted, -1.0).max(-1), 1.0)
    half = t_quantile(alpha, functional.df) * functional.se
    lower = np.where(survived, functional.estimate - half, np.inf).min(-1)
    upper = np.where(survived, functional.estimate + half, -np.inf).max(-1)
    worst = np.where(survived, p.verified, -1.0).argmax(-1)
    lower, upper = np.where(some, lower, np.nan), np.where(some, upper, np.nan)
    return Hull(PValues(verified, refuted), survived, functional, lower, upper, worst)


# --- logarithms of means --------------------------------------------------------------------------------------------


class LogMeans(NamedTuple):
    """Bias-corrected logarithms of means, their variances, and the relative variances that must stay below .05."""

    value: np.ndarray
    variance: np.ndarray


def log_means(means: Float[np.ndarray, "... sizes"], variances: Float[np.ndarray, "... sizes"]) -> LogMeans:
    """log E y from a mean with variance v/S: log ybar + v/(2 S ybar^2), variance v/(S ybar^2)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = variances / means**2
        return LogMeans(np.log(means) + relative / 2, relative)


def log_mean_pseudovalues(values: Float[np.ndarray, "... seeds sizes"]) -> Float[np.ndarray, "... seeds sizes"]:
    """Jackknife pseudo-values of log E y over seeds shared by the sizes; their mean corrects the bias of order 1/S."""
    seeds = values.shape[-2]
    total = values.sum(-2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return seeds * np.log(total / seeds) - (seeds - 1) * np.log((total - values) / (seeds - 1))


# --- exact data -----------------------------------------------------------------------------------------------------


class ModelErrorInterval(NamedTuple):
    """Interval of a limit of exact data. It bounds the error of the model, and carries no probability."""

    estimate: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    extrapolated: np.ndarray


def local_slopes(x: Float[np.ndarray, " sizes"], log_values: Float[np.ndarray, "... sizes"]) -> np.ndarray:
    """Slopes of log y between neighbouring x."""
    return np.diff(log_values, axis=-1) / np.diff(x)


def limit_gauges(x: Float[np.ndarray, " sizes"], orders: Sequence[float]) -> Float[np.ndarray, "orders sizes"]:
    """Size of a correction of each order in a sequence at x, relative to the last: e^{-c x}."""
    with np.errstate(over="ignore"):
        return np.exp(-np.multiply.outer(np.asarray(orders), x - x[-1]))


def slope_gauges(x: Float[np.ndarray, " sizes"], orders: Sequence[float]) -> Float[np.ndarray, "orders slopes"]:
    """Size of a correction e^{-c x} of log y in the local slopes: its difference quotients, exact for any spacing."""
    with np.errstate(invalid="ignore"):
        return -np.diff(limit_gauges(x, orders), axis=-1) / np.diff(x)


def richardson(
    sequence: Float[np.ndarray, "... terms"],
    gauges: Float[np.ndarray, "orders terms"],
    doubling: Float[np.ndarray, " orders"],
) -> ModelErrorInterval:
    """Limit of a sequence of exact numbers whose error is A gauge(c) (1 + o(1)) for some declared order c.

    With G = gauge_{k-1}/gauge_k (2^c where sizes double), R_k(c) = (G f_k - f_{k-1})/(G - 1) removes an error of order
    c. Several orders: [min_c R_k, max_c R_k] widened by 2 max_c |R_k - R_{k-1}|; one known order: R_k -+ |R_k -
    R_{k-1}|. `doubling` holds the G of doubling sizes, for which the change R_k - R_{k-1} measures what is left; where
    sizes grow more slowly the change shows less of it, and the widening is multiplied by (doubling - 1)/(G - 1).

    Raises: InputError with fewer than three terms.
    """
    terms = sequence.shape[-1]
    require(terms >= 3, f"terms of an exact sequence must be at least 3, got {terms}")
    ratio = gauges[:, -3:-1] / gauges[:, -2:]
    f = sequence[..., None, :]
    both = (ratio * f[..., -2:] - f[..., -3:-1]) / (ratio - 1)
    last, change = both[..., 1], np.abs(both[..., 1] - both[..., 0]).max(-1)
    slow = max(1.0, float(((doubling - 1) / (ratio.min(1) - 1)).max()))
    widening = (1.0 if len(gauges) == 1 else 2.0) * slow * change
    lower, upper = last.min(-1) - widening, last.max(-1) + widening
    return ModelErrorInterval((last.min(-1) + last.max(-1)) / 2, lower, upper, last)
