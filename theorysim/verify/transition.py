"""Location of a transition from success counts over levels, or from each seed's own threshold."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from theorysim.verify.intervals import median_rank


class LogisticFit(NamedTuple):
    """Height-1/2 point of a logistic success curve.

    location, se: x50 and its delta-method s.e.
    slope: derivative of the log odds at x50.
    curvature_t: t statistic of the quadratic term, 0 where it has no estimate.
    quadratic: whether the quadratic term was needed.
    """

    location: float
    se: float
    slope: float
    curvature_t: float
    quadratic: bool


NO_FIT = LogisticFit(math.nan, math.nan, math.nan, 0.0, False)

CURVATURE_T = 3.0
"""A linear fit is refused when the quadratic term's t statistic exceeds this."""


def _newton(design: np.ndarray, successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Maximum-likelihood coefficients and covariance, None where the likelihood has no interior maximum."""

    def loss(beta: np.ndarray) -> float:
        odds = design @ beta
        return float(np.sum(trials * np.logaddexp(0, odds) - successes * odds))

    beta = np.zeros(design.shape[1])
    value = loss(beta)
    for _ in range(60):
        p = special.expit(design @ beta)
        information = (design * (trials * p * (1 - p))[:, None]).T @ design
        try:
            step = np.linalg.solve(information, design.T @ (successes - trials * p))
        except np.linalg.LinAlgError:
            return None
        length = 1.0
        while loss(beta + length * step) > value + 1e-12 * abs(value) and length > 1e-6:
            length /= 2
        beta, value = beta + length * step, loss(beta + length * step)
        if np.abs(beta).max() > 1e3 or not np.isfinite(value):  # separated data: the curve is a step
            return None
        if np.abs(step).max() < 1e-10:
            p = special.expit(design @ beta)
            information = (design * (trials * p * (1 - p))[:, None]).T @ design
            return beta, np.linalg.inv(information)
    return None


def logistic_location(
    levels: Float[np.ndarray, " levels"],
    successes: Float[np.ndarray, " levels"],
    trials: Float[np.ndarray, " levels"],
    outcomes: Float[np.ndarray, "seeds levels"] | None = None,
) -> LogisticFit:
    """x50 of a logistic regression of the success probability on the level.

    A quadratic term is added where its t statistic exceeds 3: a linear fit to a skewed curve is biased by .14 widths.
    With `outcomes` (a seed tried at all levels) the s.e. is the infinitesimal jackknife over seeds (Jaeckel 1972); the
    binomial one is wrong there by a factor of 2. The fit is `NO_FIT` where the likelihood has no maximum or the curve
    does not cross 1/2.
    """
    centre, width = levels.mean(), levels.std() or 1.0
    x = (levels - centre) / width
    columns = np.stack([np.ones_like(x), x, x**2], 1)

    def covariance(beta: np.ndarray, bread: np.ndarray) -> np.ndarray:
        if outcomes is None:
            return bread
        design = columns[:, : len(beta)]
        scores = (outcomes - special.expit(design @ beta)) @ design
        seeds = len(outcomes)
        return bread @ (scores.T @ scores) @ bread * seeds / (seeds - 1)

    def located(beta: np.ndarray, cov: np.ndarray, root: float, t: float) -> LogisticFit:
        slope = beta[1] + (2 * beta[2] * root if len(beta) == 3 else 0.0)
        gradient = -np.array([1.0, root, root**2])[: len(beta)] / slope
        se = math.sqrt(gradient @ cov @ gradient)
        return LogisticFit(float(centre + width * root), float(width * se), float(slope / width), t, len(beta) == 3)

    second = _newton(columns, successes, trials)
    t = 0.0
    if second is not None:
        beta, cov = second[0], covariance(*second)
        t = float(beta[2] / math.sqrt(cov[2, 2]))
        if abs(t) > CURVATURE_T:
            roots = np.roots(beta[::-1])
            roots = roots[np.isreal(roots)].real
            inside = roots[(roots >= x.min()) & (roots <= x.max())]
            if len(inside) == 0:
                return NO_FIT
            return located(beta, cov, float(inside[np.argmin(np.abs(inside))]), t)
    first = _newton(columns[:, :2], successes, trials)
    if first is None or first[0][1] == 0:
        return NO_FIT
    beta = first[0]
    return located(beta, covariance(*first), float(-beta[0] / beta[1]), t)


def isotonic_location(
    levels: Float[np.ndarray, " levels"],
    successes: Float[np.ndarray, " levels"],
    trials: Float[np.ndarray, " levels"],
) -> float:
    """Crossing of 1/2 by the monotone least-squares curve, interpolated; nan where it does not cross."""
    rates = successes / trials
    increasing = bool(np.polyfit(levels, rates, 1)[0] >= 0)
    fitted = optimize.isotonic_regression(rates, weights=trials, increasing=increasing).x
    if not increasing:
        fitted = -fitted
    half = 0.5 if increasing else -0.5
    above = np.flatnonzero(fitted >= half)
    if len(above) == 0 or above[0] == 0:
        return math.nan
    k = above[0]
    return float(levels[k - 1] + (levels[k] - levels[k - 1]) * (half - fitted[k - 1]) / (fitted[k] - fitted[k - 1]))


def median_location(thresholds: Float[np.ndarray, " seeds"]) -> tuple[float, float]:
    """Median of the seeds' own thresholds and its s.e. from the order statistics one s.e. apart (McKean-Schrader)."""
    ordered = np.sort(thresholds)
    seeds = len(ordered)
    # ranks whose distance is that of a normal's -+ 2 s.e.: nearer ones make the s.e. itself too noisy
    rank = max(median_rank(seeds, 0.0228), 1)
    return float(np.median(ordered)), float(ordered[seeds - rank] - ordered[rank - 1]) / 4


class Crossing(NamedTuple):
    """Where the success curves of two sizes cross."""

    location: float
    se: float


def curve_crossing(small: LogisticFit, large: LogisticFit) -> Crossing:
    """Crossing of the logistic curves of two sizes: (b' x' - b x)/(b' - b), slopes b'/b >= 1.5, else nan."""
    b, steep = small.slope, large.slope
    if not steep / b >= 1.5:
        return Crossing(math.nan, math.nan)
    location = (steep * large.location - b * small.location) / (steep - b)
    return Crossing(location, math.hypot(steep * large.se, b * small.se) / abs(steep - b))
