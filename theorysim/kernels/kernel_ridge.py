"""Kernel ridge regression with any kernel, and the optimal predictor linear in the labels for a Gaussian-process prior.

A kernel is the function (X, Z) -> matrix k(x_i, z_j), so that it may use matrix products; `gram` makes one of k(x, z). The ridge
delta is not normalised by the number of data: alpha = (K + delta I)^{-1} y. With the prior's own kernel and delta = tau^2 this is
the posterior mean, hence the best smoother of all, whose risk on given points is `posterior`'s variance.

In float64, which every function demands: a Gram matrix is numerically singular in float32. `jit` and `vmap` are the caller's.

>>> with jax.enable_x64(True):
...     weights = fit(X, y, rbf(16.0), 0.01)
...     f_hat = predict(weights, fresh, rbf(16.0))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_solve, cholesky, solve_triangular
from jaxtyping import Array, Float

from theorysim.errors import require

Scalar = Float[Array, ""]
Kernel = Callable[[Float[Array, "n d"], Float[Array, "p d"]], Float[Array, "n p"]]

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""


# --- kernels ----------------------------------------------------------------------------------------------------------


def rbf(h2: Scalar | float) -> Kernel:
    """exp(-|x - z|^2/(2 h2))."""

    def kernel(X: Float[Array, "n d"], Z: Float[Array, "p d"]) -> Float[Array, "n p"]:
        square = jnp.sum(X * X, axis=1)[:, None] + jnp.sum(Z * Z, axis=1)[None, :]
        # Rounding must not make a distance negative, or the diagonal exceed one.
        return jnp.exp(-jnp.maximum(square - 2 * jnp.matmul(X, Z.T, precision=PRECISE), 0) / (2 * h2))

    return kernel


def gram(function: Callable[[Float[Array, " d"], Float[Array, " d"]], Scalar]) -> Kernel:
    """The kernel of any k(x, z) of two points."""
    return jax.vmap(jax.vmap(function, (None, 0)), (0, None))


# --- regression -------------------------------------------------------------------------------------------------------


class Fit(NamedTuple):
    """X: inputs, shape (n, d). alpha: weights, shape (n,), or (n, k) of k targets. NaN where K + delta I is not positive."""

    X: Float[Array, "n d"]
    alpha: Float[Array, "n *k"]


def fit(X: Float[Array, "n d"], y: Float[Array, "n *k"], kernel: Kernel, delta: Scalar | float) -> Fit:
    """alpha = (K + delta I)^{-1} y by Cholesky, n^3/3 flops.

    y: targets, shape (n,), or (n, k) of k regressions on the same inputs. Raises InputError unless X is in float64.
    """
    return Fit(X, cho_solve((_factor(X, kernel, delta), True), y))


def predict(fit: Fit, Z: Float[Array, "p d"], kernel: Kernel) -> Float[Array, "p *k"]:
    """f_hat at the points Z, shape (p,) or (p, k)."""
    return jnp.matmul(kernel(Z, fit.X), fit.alpha, precision=PRECISE)


def smoother(
    X: Float[Array, "n d"], Z: Float[Array, "p d"], kernel: Kernel, delta: Scalar | float
) -> Float[Array, "p n"]:
    """Weights s(z; X) of the labels in f_hat(z), row by row. Raises as `fit`."""
    return cho_solve((_factor(X, kernel, delta), True), kernel(X, Z)).T


# --- Gaussian-process prior -------------------------------------------------------------------------------------------


class Posterior(NamedTuple):
    """mean: of f at the points, the best prediction linear in the labels. variance: its risk E (f_hat - f)^2 given the inputs."""

    mean: Float[Array, " p"]
    variance: Float[Array, " p"]


def posterior(
    X: Float[Array, "n d"], y: Float[Array, " n"], Z: Float[Array, "p d"], prior: Kernel, tau2: Scalar | float
) -> Posterior:
    """Of f at the points Z, given labels with noise of variance tau2 at X and E f(x) f(z) = prior(x, z).

    mean k^T (K + tau2 I)^{-1} y and variance K(z, z) - k^T (K + tau2 I)^{-1} k with k = K(X, z). The variance, which does not
    depend on labels, has a far smaller spread than squared errors, and the same mean over them. Raises as `fit`.
    """
    lower = _factor(X, prior, tau2)
    whitened = solve_triangular(lower, prior(X, Z), lower=True)
    mean = jnp.matmul(whitened.T, solve_triangular(lower, y, lower=True), precision=PRECISE)
    return Posterior(mean, _diagonal(prior, Z) - jnp.sum(whitened**2, axis=0))


def smoother_risk(
    weights: Float[Array, "p n"], X: Float[Array, "n d"], Z: Float[Array, "p d"], prior: Kernel, tau2: Scalar | float
) -> Float[Array, " p"]:
    """E (sum_i s_i y_i - f(z))^2 under the prior, K(z, z) - 2 s^T k + s^T (K + tau2 I) s, for any smoother s(z; X), row by row.

    Raises InputError unless X is in float64.
    """
    K = _regularised(X, prior, tau2)
    cross = jnp.sum(weights * prior(Z, X), axis=1)
    return _diagonal(prior, Z) - 2 * cross + jnp.sum(jnp.matmul(weights, K, precision=PRECISE) * weights, axis=1)


def _diagonal(kernel: Kernel, Z: Float[Array, "p d"]) -> Float[Array, " p"]:
    return jax.vmap(lambda z: kernel(z[None], z[None])[0, 0])(Z)


def _factor(X: Float[Array, "n d"], kernel: Kernel, ridge: Scalar | float) -> Float[Array, "n n"]:
    """Lower Cholesky factor of K + ridge I."""
    return cholesky(_regularised(X, kernel, ridge), lower=True)


def _regularised(X: Float[Array, "n d"], kernel: Kernel, ridge: Scalar | float) -> Float[Array, "n n"]:
    require(X.dtype == jnp.float64, f"inputs X must be in float64 (see jax.enable_x64), got {X.dtype}")
    return kernel(X, X) + ridge * jnp.eye(len(X), dtype=X.dtype)
