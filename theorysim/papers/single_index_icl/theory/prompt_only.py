"""What can be learned from the test prompt alone, or with the subspace known: linear optimum, Bayes, correlational queries.

A predictor linear in the labels, s(x; X)^T y, has a risk that depends on the link through the prior kernel K alone. K is
that of the coordinates passed in: all d of them where the subspace is unknown (beta uniform on the sphere of R^d), those
in S where it is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

from theorysim.errors import require
from theorysim.papers.single_index_icl.theory.inputs import float64, require_dimension, require_noise
from theorysim.papers.single_index_icl.theory.links import Link
from theorysim.papers.single_index_icl.theory.zonal import blocks, prior_kernel, signal_power, zonal_eigenvalue


def smoother_risk(
    weights: Float[np.ndarray, "n queries"],
    context: Float[np.ndarray, "n dim"],
    queries: Float[np.ndarray, "queries dim"],
    link: Link,
    tau: float,
) -> Float[np.ndarray, " queries"]:
    """E(s^T y - f(x))^2 given X and x: K(x, x) - 2 s^T k + s^T (K(X, X) + tau^2 I) s, for each column s of weights."""
    require_noise(tau)
    covariance, cross, variance = _covariances(context, queries, link, tau)
    return variance - 2 * np.sum(weights * cross, 0) + np.sum(weights * (covariance @ weights), 0)


class LinearOptimum(NamedTuple):
    """The best predictor linear in the labels, a Gaussian process with the prior kernel.

    weights: s = (K(X, X) + tau^2 I)^{-1} k (n, queries). risk: K(x, x) - k^T s (queries,), at most the `smoother_risk` of
    every other s at every X and x.
    """

    weights: Float[np.ndarray, "n queries"]
    risk: Float[np.ndarray, " queries"]


def linear_optimum(
    context: Float[np.ndarray, "n dim"], queries: Float[np.ndarray, "queries dim"], link: Link, tau: float
) -> LinearOptimum:
    """Weights and risk of the linear optimum; tau > 0, because K(X, X) is singular for n beyond its rank."""
    require_noise(tau, positive=True)
    covariance, cross, variance = _covariances(context, queries, link, tau)
    weights = cho_solve(cho_factor(covariance, lower=True), cross)
    return LinearOptimum(weights, variance - np.sum(cross * weights, 0))


def _covariances(
    context: Float[np.ndarray, "n dim"], queries: Float[np.ndarray, "queries dim"], link: Link, tau: float
) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "n queries"], Float[np.ndarray, " queries"]]:
    """K(X, X) + tau^2 I, K(X, x), K(x, x)."""
    covariance = prior_kernel(context, context, link) + tau**2 * np.eye(len(context))
    variance = signal_power(np.linalg.norm(queries, axis=1), link, queries.shape[1])
    return covariance, prior_kernel(context, queries, link), variance


class LargePromptLimits(NamedTuple):
    """Limits of N risk/tau^2 as N -> infinity, the numbers of free parameters.

    bayes: r - 1 for a known link, whatever it is. linear: sum_l n_l rank(L_l), the dimension of the span of the tasks.
    """

    bayes: int
    linear: int


def large_prompt_limits(link: Link, r: int) -> LargePromptLimits:
    """For a fixed link and Gaussian noise. Raises InputError for a random link or r < 2, where beta is one of two points."""
    require_dimension(r, 2)
    require(len(link.coefficients) == 1, f"link must be fixed, got {len(link.coefficients)} atoms")
    return LargePromptLimits(r - 1, sum(block.multiplicity * block.factor.shape[1] for block in blocks(link, r)))


def correlational_bound(Q: int, d: int, *, centred: bool = False) -> float:
    """sup of E_beta (E_x f_beta h)^2 over E h^2 <= 1, f_beta = He_Q(<beta, x>)/sqrt(Q!), beta uniform on the sphere of R^d.

    max_l lambda_Ql(d), attained by h in that block; `centred` takes the mean of f_beta over beta (l = 0) off first, and
    leaves lambda_Q1 (Q odd) or lambda_Q2 (Q even), of order d^{-ceil((Q+1)/2)}. Within the harmonics of degree Q it is
    lambda_QQ = Q!/(d(d + 2)..(d + 2Q - 2)). Queries of tolerance d^{-Q/4} are as d^{Q/2} samples.
    """
    require(Q >= 1, f"degree Q must be at least 1, got {Q}")
    require_dimension(d, 2)
    return max(zonal_eigenvalue(Q, degree, d) for degree in range(Q % 2, Q + 1, 2) if degree > 0 or not centred)


def excess_absolute_risk(error: Float[np.ndarray, " samples"], tau: float) -> float:
    """E|e - s| - tau = E max(|e| - tau, 0) for s = +-tau with equal odds: 0 for a predictor that is nowhere off by more."""
    require_noise(tau)
    return float(np.mean(np.maximum(np.abs(float64(error)) - tau, 0.0)))
