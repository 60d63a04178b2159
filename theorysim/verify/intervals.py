"""Exact and distribution-free limits, looks at a growing budget, and family-wise control over a report.

Clopper-Pearson (1934), Dvoretzky-Kiefer-Wolfowitz with Massart's constant (1990), order-statistic limits of a median,
the normal-mixture confidence sequence (Waudby-Smith et al. 2021, asymptotic form), Holm (1979).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy import stats

from theorysim.errors import require
from theorysim.verify.primitive import PValues, Test


def clopper_pearson(successes: ArrayLike, trials: ArrayLike, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact limits of a probability, `alpha` on each side."""
    k, n = np.asarray(successes), np.asarray(trials)
    # the beta laws degenerate at 0 and n successes; dummy parameters there, replaced by the exact ends
    lower = np.where(k > 0, stats.beta.ppf(alpha, np.where(k > 0, k, 1), n - k + 1), 0.0)
    upper = np.where(k < n, stats.beta.isf(alpha, k + 1, np.where(k < n, n - k, 1)), 1.0)
    return lower, upper


def draws_without_violation(mass: float, alpha: float) -> int:
    """Least number of independent draws, none violating, that excludes a violating mass >= `mass` at level `alpha`."""
    require(0 < mass < 1, f"violating mass must lie in (0, 1), got {mass}")
    return math.ceil(math.log(alpha) / math.log1p(-mass))


def dkw_band(draws: ArrayLike, alpha: float) -> np.ndarray:
    """Half-width of the uniform band of an empirical cdf: sqrt(log(2/alpha)/(2 N))."""
    return np.sqrt(math.log(2 / alpha) / (2 * np.asarray(draws)))


def median_rank(seeds: int, alpha: float) -> int:
    """Order statistic, counted from 1 at either end, that limits the median at level `alpha` a side; 0 if too few."""
    ranks = np.arange(seeds // 2 + 1)
    return int(np.sum(stats.binom.cdf(ranks, seeds, 0.5) <= alpha))


def median_test(values: Float[np.ndarray, " seeds"], lo: float, hi: float, alpha: float) -> Test:
    """Judge 0 for a median in [lo, hi] by sign tests, with order-statistic limits; ties count against rejection."""
    ordered = np.sort(values)
    seeds = len(ordered)

    def signs(side: np.ndarray) -> float:
        return float(stats.binom.sf(np.count_nonzero(side) - 1, seeds, 0.5))

    above_lo, above_hi = signs(values > lo), signs(values > hi)
    below_lo, below_hi = signs(values < lo), signs(values < hi)
    # an open side rejects nothing: every value lies on its inner side
    p = PValues(np.asarray(max(above_lo, below_hi)), np.asarray(min(1.0, above_hi + above_lo, below_lo + below_hi)))
    if np.isinf(lo) or np.isinf(hi):
        p = PValues(
            np.asarray(below_hi if np.isinf(lo) else above_lo), np.asarray(above_hi if np.isinf(lo) else below_lo)
        )
    rank = median_rank(seeds, alpha)
    lower, upper = (ordered[rank - 1], ordered[seeds - rank]) if rank else (-np.inf, np.inf)
    nan = np.asarray(np.nan)
    return Test(p, np.median(ordered), nan, np.asarray(lower), np.asarray(upper), nan)


def mixture_half_width(seeds: ArrayLike, planned: int, alpha: float) -> np.ndarray:
    """Half-width, in units of the sd, of the confidence sequence tuned to `planned` seeds; valid from 32 seeds on."""
    n = np.asarray(seeds, dtype=float)
    log_level = math.log(2 * alpha)
    r = (-2 * log_level + math.log(1 - 2 * log_level)) / planned
    return np.sqrt(2 * (n * r + 1) / (n**2 * r) * np.log(np.sqrt(n * r + 1) / (2 * alpha)))


def look_sizes(planned: int, looks: int = 9) -> tuple[int, ...]:
    """Seed numbers of geometrically spaced looks, ratio sqrt 2, ending at twice the planned number.

    Each look is judged at alpha/looks in each direction; stop at the first verdict.
    """
    require(planned >= 8, f"planned seeds must be at least 8, got {planned}")
    sizes = [math.ceil(2 * planned / math.sqrt(2) ** (looks - 1 - k)) for k in range(looks)]
    return tuple(sorted(set(sizes)))


def holm(p: Float[np.ndarray, "... claims"], level: float = 0.05) -> Bool[np.ndarray, "... claims"]:
    """Which null hypotheses Holm's step-down procedure rejects, family-wise error `level` under any dependence."""
    claims = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    passed = np.take_along_axis(p, order, -1) * (claims - np.arange(claims)) <= level
    rejected = np.empty_like(passed)
    np.put_along_axis(rejected, order, np.logical_and.accumulate(passed, axis=-1), -1)
    return rejected
