"""Spectrum of C^{1/2} Hess F_TAP C^{1/2}, which sets the pace of natural gradient descent, at AMP's limit; derived here.

With C = L L^T, L = [[sqrt(V), 0], [l21, l22]] for each coordinate, L^T (Hess F) L is

    diag(M, I_p) - a matrix of rank one,    M = I - g V + V^{1/2} X^T X V^{1/2}/sigma^2,    g = delta/(sigma^2 + mean V),

so that p - 1 eigenvalues are exactly 1, and all others interlace with those of M.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float

from theorysim.errors import require
from theorysim.papers.tap_amp import theory

HEIGHTS, NEWTON = 40, 4
"""Heights above the real axis, each starting from the one above, and Newton steps at each."""

NODES = 600
"""Of the average over V; more change no digit that can be seen."""


def bulk_density(
    prior: theory.Discrete, delta: float, sigma: float, mu: Float[np.ndarray, " points"], *, height: float = 1e-3
) -> Float[np.ndarray, " points"]:
    """Limiting density of the eigenvalues of M at gamma_alg, averaged over a width of `height`.

    To leading order V_j is independent of the other columns, and the resolvent of M at z has the diagonal

        R_j = 1/(1 - z - (g - kappa) V_j),    kappa = delta/(sigma^2 + e),    e = E[V R],

    V the posterior variance of the scalar channel at gamma_alg = g. At z = 0 it is R = 1, kappa = g. Solved by Newton's
    method in e, down from large Im z. Raises InputError unless height > 0.
    """
    require(height > 0, f"height must be positive, got {height}")
    g = float(theory.gamma_alg(prior, delta, sigma))
    V, weight = _variances(prior, g)
    e: Complex[np.ndarray, " points"] = np.zeros(mu.size, complex)
    for imaginary in np.geomspace(max(10.0, height), height, HEIGHTS):
        z = mu + 1j * imaginary
        for _ in range(NEWTON):
            tau = sigma**2 + e
            response = V / (1 - z[:, None] - V * (g - delta / tau)[:, None])
            e = e - (response @ weight - e) / (delta / tau**2 * (response**2 @ weight) - 1)
    kappa = delta / (sigma**2 + e)
    return np.imag((1 / (1 - z[:, None] - V * (g - kappa)[:, None])) @ weight) / np.pi


def extremes(
    prior: theory.Discrete,
    gram: Float[np.ndarray, "p p"],
    lam: Float[np.ndarray, " p"],
    gam: Float[np.ndarray, " p"],
    delta: float,
    sigma: float,
) -> tuple[float, float]:
    """mu_min and mu_max of L^T (Hess F) L at (lam, gam), gram = X^T X, from the dense matrix."""
    p, noise = lam.size, sigma**2
    law = prior.tilted(lam, gam)
    tau = noise + law.variance.mean()
    first = np.sqrt(law.variance)
    cross = law.cross_covariance / first
    second = np.sqrt(np.maximum(law.square_variance - cross**2, 0))
    matrix = np.eye(2 * p)
    matrix[:p, :p] += first[:, None] * (gram / noise - delta / tau * np.eye(p)) * first
    w = np.concatenate([2 * first * law.mean - cross, -second])
    matrix -= delta / (2 * p * tau**2) * np.outer(w, w)
    values = np.linalg.eigvalsh(matrix)
    return float(values[0]), float(values[-1])


def _variances(prior: theory.Discrete, gamma: float) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """V(lam, gamma) at the nodes of the scalar channel, and their weights."""
    law = theory.bayes_marginals(prior, gamma)
    coarse = slice(None, None, max(1, law.joint.shape[1] // NODES))
    weight, reported = law.joint.sum(0)[coarse], law.reported[:, coarse]
    off = law.atoms[:, None] - law.atoms @ reported
    return np.sum(reported * off**2, axis=0), weight / weight.sum()
