"""Judge 0, to which every statistical judge reduces: estimate, s.e. and tolerance region give two p-values.

Two one-sided tests decide `verified` (Schuirmann 1987), the interval null of Hodges and Lehmann (1954) decides
`refuted`. All functions act on arrays of problems, so that error rates can be measured on the judges' own code.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from theorysim.errors import require


class PValues(NamedTuple):
    """p-values of the null hypotheses 'outside the region' (`verified`) and 'inside the region' (`refuted`)."""

    verified: np.ndarray
    refuted: np.ndarray


class Moments(NamedTuple):
    """Mean, standard error and skewness along the seed axis; `seeds` is their number."""

    mean: np.ndarray
    se: np.ndarray
    skewness: np.ndarray
    seeds: int


def moments(values: Float[np.ndarray, "... seeds"]) -> Moments:
    """Mean, s.e. (sd with S-1) and skewness (third central moment with 1/S over sd^3) along the last axis."""
    seeds = values.shape[-1]
    mean = values.mean(-1)
    centred = values - mean[..., None]
    variance = np.square(centred).sum(-1) / (seeds - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = (centred**3).mean(-1) / variance**1.5
    return Moments(mean, np.sqrt(variance / seeds), np.where(variance > 0, skewness, 0.0), seeds)


def t_quantile(alpha: float, df: ArrayLike) -> np.ndarray:
    """Upper `alpha` quantile of Student's t."""
    return -special.stdtrit(df, alpha)


def pivot(mean: ArrayLike, se: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Studentised distance (mean - mu)/se; an infinite `mu` gives an infinite pivot."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.asarray(mean) - np.asarray(mu)) / np.asarray(se)


def hall_pivot(sample: Moments, mu: ArrayLike) -> np.ndarray:
    """Hall's (1992) skewness-corrected pivot of a mean, to be compared with Student's t, S-1 degrees of freedom.

    T = sqrt(S) (u + g u^2/3 + g^2 u^3/27 + g/(6S)), u = (mean - mu)/sd, g the sample skewness; increasing in the mean.
    """
    root = math.sqrt(sample.seeds)
    u = pivot(sample.mean, sample.se, mu) / root
    g = sample.skewness
    with np.errstate(invalid="ignore", over="ignore"):
        # (1 + g u/3)^3 = 1 + g (u + g u^2/3 + g^2 u^3/27), so the cubic is increasing in u
        transformed = root * (u + g * u**2 / 3 + g**2 * u**3 / 27 + g / (6 * sample.seeds))
    return np.where(np.isinf(u), u, transformed)


def hall_limits(sample: Moments, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Means mu at which Hall's pivot equals its upper and lower alpha quantiles: lower and upper confidence limit."""
    root = math.sqrt(sample.seeds)
    quantile = float(t_quantile(alpha, sample.seeds - 1))
    g = sample.skewness
    small = np.abs(g) < 1e-8
    divisor = np.where(small, 1.0, g)

    def mean_at(value: float) -> np.ndarray:
        w = value / root - g / (6 * sample.seeds)
        u = np.where(small, w, 3 * (np.cbrt(1 + divisor * w) - 1) / divisor)
        return sample.mean - u * sample.se * root

    return mean_at(quantile), mean_at(-quantile)


def pivot_p_values(at_lo: ArrayLike, at_hi: ArrayLike, df: ArrayLike) -> PValues:
    """p-values from the pivots at the edges of the region (`at_lo >= at_hi`; +inf, -inf for a side that is open)."""
    at_lo, at_hi = np.asarray(at_lo), np.asarray(at_hi)
    below_lo, above_lo = special.stdtr(df, at_lo), special.stdtr(df, -at_lo)
    below_hi, above_hi = special.stdtr(df, at_hi), special.stdtr(df, -at_hi)
    # at |estimate - centre| = x: the tail beyond x on its own side plus the one at the same distance across the region
    return PValues(np.maximum(above_lo, below_hi), np.minimum(above_hi + above_lo, below_lo + below_hi))


def p_values(
    estimate: ArrayLike, se: ArrayLike, df: ArrayLike, lo: ArrayLike, hi: ArrayLike, bias: ArrayLike = 0.0
) -> PValues:
    """Judge 0 for an estimate with standard error `se` and `df` degrees of freedom against the region [lo, hi].

    `bias` >= 0 bounds an error that no seed reveals: the region shrinks by it for `verified`, grows for `refuted`.
    """
    lo, hi, bias = np.asarray(lo), np.asarray(hi), np.asarray(bias)
    verified = pivot_p_values(pivot(estimate, se, lo + bias), pivot(estimate, se, hi - bias), df).verified
    refuted = pivot_p_values(pivot(estimate, se, lo - bias), pivot(estimate, se, hi + bias), df).refuted
    return PValues(verified, refuted)


def interval(estimate: ArrayLike, se: ArrayLike, df: ArrayLike, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """estimate -+ t_{1-alpha} se: it lies inside the region iff `verified` (up to the open sides)."""
    half = t_quantile(alpha, df) * np.asarray(se)
    return np.asarray(estimate) - half, np.asarray(estimate) + half


class Test(NamedTuple):
    """Judge 0 on samples: p-values, estimate with s.e., confidence limits, and skewness of what was averaged."""

    p: PValues
    estimate: np.ndarray
    se: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    skewness: np.ndarray


def mean_test(
    values: Float[np.ndarray, "... seeds"], lo: float, hi: float, alpha: float, *, hall: bool = False, bias: float = 0.0
) -> Test:
    """Judge 0 for the mean of the last axis in [lo, hi], with Student's or (`hall`) Hall's pivot."""
    sample = moments(values)
    df = sample.seeds - 1

    def at(mu: float) -> np.ndarray:
        return hall_pivot(sample, mu) if hall else pivot(sample.mean, sample.se, mu)

    verified = pivot_p_values(at(lo + bias), at(hi - bias), df).verified
    refuted = pivot_p_values(at(lo - bias), at(hi + bias), df).refuted
    lower, upper = hall_limits(sample, alpha) if hall else interval(sample.mean, sample.se, df, alpha)
    return Test(PValues(verified, refuted), sample.mean, sample.se, lower, upper, sample.skewness)


def ratio_test(
    a: Float[np.ndarray, "... seeds"],
    b: Float[np.ndarray, "... seeds"],
    lo: float,
    hi: float,
    alpha: float,
    *,
    hall: bool = False,
    bias: float = 0.0,
) -> Test:
    """Judge 0 for E a / E b in [lo, hi], by the linear statistics a - lo b and a - hi b about 0 (Fieller 1954).

    Exact in the far tail for normal pairs, where delta and jackknife are not; with constant `b` it is Judge 0 for E a.
    The sign of the mean of `b` must be beyond doubt, or the interval is the whole line. With `hall` each linear
    statistic is judged by Hall's pivot, and the interval is that of the linearised ratio. `bias` is in units of the
    ratio.
    """
    a, b = np.broadcast_arrays(a, b)
    seeds = a.shape[-1]
    sign = np.sign(b.mean(-1))[..., None]
    a, b = a * sign, b * sign

    def at(r: float) -> np.ndarray:
        if np.isinf(r):
            return np.full(a.shape[:-1], -r)  # an open side
        sample = moments(a - r * b)
        return hall_pivot(sample, 0.0) if hall else pivot(sample.mean, sample.se, 0.0)

    verified = pivot_p_values(at(lo + bias), at(hi - bias), seeds - 1).verified
    refuted = pivot_p_values(at(lo - bias), at(hi + bias), seeds - 1).refuted
    mean_b = b.mean(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = a.mean(-1) / mean_b
        linear = moments((a - estimate[..., None] * b) / mean_b[..., None])
        if hall:
            lower, upper = hall_limits(linear, alpha)
            lower, upper = estimate + lower, estimate + upper
        else:
            lower, upper = _fieller(a, b, float(t_quantile(alpha, seeds - 1)))
    return Test(PValues(verified, refuted), estimate, linear.se, lower, upper, linear.skewness)


def _fieller(a: np.ndarray, b: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Ratios r with |mean(a - r b)| <= t se(a - r b)."""
    seeds = a.shape[-1]
    mean_a, mean_b = a.mean(-1), b.mean(-1)
    da, db = a - mean_a[..., None], b - mean_b[..., None]
    scale = t**2 / (seeds * (seeds - 1))
    aa, ab, bb = (da * da).sum(-1) * scale, (da * db).sum(-1) * scale, (db * db).sum(-1) * scale
    leading = mean_b**2 - bb
    middle = mean_a * mean_b - ab
    root = np.sqrt(np.maximum(middle**2 - leading * (mean_a**2 - aa), 0.0))
    unbounded = leading <= 0
    lower = np.where(unbounded, -np.inf, (middle - root) / leading)
    upper = np.where(unbounded, np.inf, (middle + root) / leading)
    return lower, upper


def trimmed_mean(values: Float[np.ndarray, "... seeds"], share: float = 0.2) -> tuple[np.ndarray, np.ndarray, int]:
    """Yuen's (1974) trimmed mean, its s.e. from the winsorised sd, and its degrees of freedom."""
    ordered = np.sort(values, axis=-1)
    seeds = values.shape[-1]
    cut = math.floor(share * seeds)
    kept = seeds - 2 * cut
    core = ordered[..., cut : seeds - cut]
    winsorised = np.concatenate(
        [np.repeat(core[..., :1], cut, -1), core, np.repeat(core[..., -1:], cut, -1)], axis=-1
    ).std(-1, ddof=1)
    return core.mean(-1), winsorised * math.sqrt((seeds - 1) / (kept * (kept - 1))), kept - 1


# --- design ---------------------------------------------------------------------------------------------------------


class DesignFactors(NamedTuple):
    """se <= min((tau - |b|)/verify, (delta - tau)/refute_95, (Delta_control - tau)/refute_99) promises the powers.

    t_quantile: critical value; verify: true claim verified with probability .99; refute_99, refute_95: refuted with
    probability .99, .95 at that many standard errors outside the region.
    """

    t_quantile: float
    verify: float
    refute_99: float
    refute_95: float


@lru_cache(maxsize=512)
def design_factors(seeds: float, alpha: float = 2e-4) -> DesignFactors:
    """Design factors for a number of seeds (`math.inf` allowed), by quadrature over the distribution of the s.e."""
    require(seeds >= 2, f"seeds must be at least 2, got {seeds}")
    if math.isinf(seeds) or seeds > 1e5:
        t = float(stats.norm.isf(alpha))
        return DesignFactors(t, *(t + float(stats.norm.isf(miss)) for miss in (0.005, 0.01, 0.05)))
    df = seeds - 1
    t = float(t_quantile(alpha, df))
    # estimated over true s.e. at 1000 equiprobable midpoints of its chi law: the integrand is smooth and bounded
    spread = np.sqrt(stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, df) / df)

    def verified(k: float) -> float:
        return float(np.maximum(2 * special.ndtr(k - t * spread) - 1, 0).mean())

    def refuted(k: float) -> float:
        return float(special.ndtr(k - t * spread).mean())

    def solve(power, target: float) -> float:
        return float(optimize.root_scalar(lambda k: power(k) - target, bracket=(0.1, 10 * t + 20)).root)

    return DesignFactors(t, solve(verified, 0.99), solve(refuted, 0.99), solve(refuted, 0.95))


def seeds_for(spread: float, tolerance: float = 1.0, alpha: float = 2e-4) -> tuple[int, int]:
    """Least seeds for a per-seed sd: true claim verified with probability .99, and 2 tau off refuted with .95."""
    require(spread > 0, f"spread must be positive, got {spread}")
    require(tolerance > 0, f"tolerance must be positive, got {tolerance}")

    def least(factor: str) -> int:
        def enough(seeds: int) -> bool:
            return spread / math.sqrt(seeds) <= tolerance / getattr(design_factors(seeds, alpha), factor)

        high = 8
        while not enough(high):
            high *= 2
        low = high // 2
        if high == 8:
            low = 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    return least("verify"), least("refute_95")


def seeds_needed(estimate: float, se: float, seeds: int, lo: float, hi: float, alpha: float) -> int | None:
    """Seeds that would decide an inconclusive verdict if the estimate stayed where it is; None if no number would."""
    factors = design_factors(max(seeds, 2), alpha)
    distance = min(hi - estimate, estimate - lo)
    if not (np.isfinite(distance) and np.isfinite(se)) or distance == 0 or se <= 0:
        return None
    factor = factors.verify if distance > 0 else factors.refute_95
    needed = seeds * (factor * se / distance) ** 2
    return max(math.ceil(needed), seeds + 1) if needed < 1e12 else None


def resolution(tolerance: float, se: float, seeds: float, alpha: float) -> float:
    """delta_95 = tau + k_R95 se: the distortion of the prediction that is refuted with probability .95."""
    return tolerance + design_factors(max(seeds, 2), alpha).refute_95 * se


# --- units ----------------------------------------------------------------------------------------------------------


class BatchMeans(NamedTuple):
    """Batch means of a series, and whether their lag-1 correlation is small enough (2/sqrt(batches)) to be units."""

    values: np.ndarray
    correlation: np.ndarray
    independent: np.ndarray


def batch_means(series: Float[np.ndarray, "... time"], batches: int = 20) -> BatchMeans:
    """Means over equal stretches of a stationary series (10 to 20, each of at least 10 correlation times)."""
    length = series.shape[-1] // batches
    require(batches >= 2 and length >= 1, f"batches must be between 2 and the length {series.shape[-1]}, got {batches}")
    values = series[..., -batches * length :].reshape(*series.shape[:-1], batches, length).mean(-1)
    centred = values - values.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        correlation = (centred[..., 1:] * centred[..., :-1]).sum(-1) / np.square(centred).sum(-1)
    return BatchMeans(values, correlation, np.abs(correlation) < 2 / math.sqrt(batches))
