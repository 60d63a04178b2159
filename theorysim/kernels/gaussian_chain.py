"""Exact laws of N linear neurons h = <x, z> trained by noisy gradient descent with the squared loss: Gaussian at every step.

The update of `theorysim.kernels.langevin` is then affine in the N d coordinates, and the mean and the full covariance of the N
particles are pushed through it step by step. No use is made of the chain's decomposition into modes.

Objectives: L^N(P) = N E_P F(rho) + lam Ent(P) of a law P of N particles, compared with L(mu*) as gap = L^N(P)/N - L(mu*) (Nitanda
et al., ICML 2025, arXiv 2502.05784). Pure functions; `jit` and `vmap` are the caller's. For use in float64.

>>> model = Model.of("linear", "squared", Z, y, lamp=0.15, lam=0.1)
>>> laws = run(iid(m0, v0, N), model, 0.2, steps=100)
>>> gaps = jax.vmap(gap, (None, 0, None))(model, laws, N)
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Float

from theorysim.errors import require
from theorysim.kernels import langevin
from theorysim.kernels.langevin import Model
from theorysim.kernels.losses import Squared

Scalar = Float[Array, ""]

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""


class Gaussian(NamedTuple):
    """Law of N particles in R^d, coordinate (i, a) at i d + a. mean: shape (N d,). covariance: shape (N d, N d)."""

    mean: Float[Array, "... D"]
    covariance: Float[Array, "... D D"]


def iid(mean: Float[Array, " d"], variance: Scalar | float, N: int) -> Gaussian:
    """N independent particles of law N(mean, variance I_d)."""
    require(N >= 1, f"number of particles N must be at least 1, got {N}")
    return Gaussian(jnp.tile(mean, N), variance * jnp.eye(N * len(mean), dtype=mean.dtype))


def run(law: Gaussian, model: Model, eta: Scalar | float, *, steps: int) -> Gaussian:
    """Laws after 0 ... steps steps of noisy gradient descent, with a leading axis of length steps + 1.

    Raises InputError unless the loss is the squared one and neurons are linear.
    """
    gradient = partial(_gradient, model, len(law.mean) // model.Z.shape[1])
    zeros = jnp.zeros_like(law.mean)
    offset, slope = gradient(zeros), jax.jacfwd(gradient)(zeros)
    identity = jnp.eye(len(zeros), dtype=zeros.dtype)
    contraction = identity - eta * slope

    def step(law: Gaussian, _: None) -> tuple[Gaussian, Gaussian]:
        mean = jnp.matmul(contraction, law.mean, precision=PRECISE) - eta * offset
        covariance = jnp.linalg.multi_dot([contraction, law.covariance, contraction.T], precision=PRECISE)
        return Gaussian(mean, covariance + 2 * model.lam * eta * identity), law

    last, laws = lax.scan(step, law, length=steps)
    return jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), laws, last)


def gibbs(model: Model, N: int) -> Gaussian:
    """P* ∝ exp(-(N/lam) F(rho)), the minimiser of L^N: the law in the limit of small steps.

    Raises InputError as `run`.
    """
    zeros = jnp.zeros(N * model.Z.shape[1], model.Z.dtype)
    gradient = partial(_gradient, model, N)
    factor = jnp.linalg.cholesky(jax.jacfwd(gradient)(zeros))
    return Gaussian(
        -cho_solve((factor, True), gradient(zeros)), model.lam * cho_solve((factor, True), jnp.eye(len(zeros)))
    )


def limit(model: Model, N: int) -> Gaussian:
    """N independent particles of law mu* = N(theta, lam/(2 lamp) I_d), theta the minimiser of F on point masses.

    Raises InputError as `run`.
    """
    theta = gibbs(model, 1).mean  # one particle's mode
    return iid(theta, model.lam / (2 * model.lamp), N)


def objective(model: Model, law: Gaussian, N: int) -> Scalar:
    """L^N(P)/N of a Gaussian law of N particles, from E F(rho) and the determinant of its covariance.

    Raises InputError as `run`.
    """
    risk = _mean_square(model, law, N, model.y) / 2
    penalty = model.lamp * (jnp.sum(law.mean**2) + jnp.trace(law.covariance)) / N
    entropy = -0.5 * (len(law.mean) * (1 + np.log(2 * np.pi)) + _log_determinant(jnp.linalg.cholesky(law.covariance)))
    return risk + penalty + model.lam / N * entropy


def bregman(model: Model, law: Gaussian, N: int) -> Scalar:
    """E B(rho, mu*) = (1/2n) sum_j E (h_rho(z_j) - h_{mu*}(z_j))^2. Raises InputError as `run`."""
    at_limit = jnp.matmul(model.Z, limit(model, 1).mean, precision=PRECISE)
    return _mean_square(model, law, N, at_limit) / 2


def free_energy(model: Model) -> Scalar:
    """L(mu*). Raises InputError as `run`."""
    _require_linear(model)
    (theta, covariance), d = limit(model, 1), model.Z.shape[1]
    risk = jnp.mean((jnp.matmul(model.Z, theta, precision=PRECISE) - model.y) ** 2) / 2
    q = covariance[0, 0]
    penalty = model.lamp * (jnp.sum(theta**2) + d * q)
    return risk + penalty - model.lam * d / 2 * (1 + jnp.log(2 * np.pi * q))


def gap(model: Model, law: Gaussian, N: int) -> Scalar:
    """L^N(P)/N - L(mu*). Raises InputError as `run`."""
    return objective(model, law, N) - free_energy(model)


def kl(law: Gaussian, other: Gaussian) -> Scalar:
    """KL(law || other)."""
    own, factor = jnp.linalg.cholesky(law.covariance), jnp.linalg.cholesky(other.covariance)
    whiten = lambda v: solve_triangular(factor, v, lower=True)
    squares = jnp.sum(whiten(own) ** 2) + jnp.sum(whiten(law.mean - other.mean) ** 2)
    return (squares - len(law.mean) + _log_determinant(factor) - _log_determinant(own)) / 2


def wasserstein2(law: Gaussian, other: Gaussian) -> Scalar:
    """W_2^2 between two Gaussian laws: |m - m'|^2 + tr(C + C' - 2 (C^{1/2} C' C^{1/2})^{1/2})."""
    root = _root(law.covariance)
    middle = jnp.linalg.multi_dot([root, other.covariance, root], precision=PRECISE)
    overlap = jnp.sum(jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(middle), 0)))
    traces = jnp.trace(law.covariance) + jnp.trace(other.covariance)
    return jnp.sum((law.mean - other.mean) ** 2) + traces - 2 * overlap


def _gradient(model: Model, N: int, x: Float[Array, " D"]) -> Float[Array, " D"]:
    """N dF/dx: the drift of every particle."""
    _require_linear(model)
    return langevin.drift(model, x.reshape(N, -1)).reshape(-1)


def _mean_square(model: Model, law: Gaussian, N: int, targets: Float[Array, " n"]) -> Scalar:
    """(1/n) sum_j E (h_rho(z_j) - targets_j)^2, where h_rho(z) = <m, z>, m the average of the particles."""
    _require_linear(model)
    d = model.Z.shape[1]
    covariance = jnp.mean(law.covariance.reshape(N, d, N, d), axis=(0, 2))
    residuals = jnp.matmul(model.Z, jnp.mean(law.mean.reshape(N, d), axis=0), precision=PRECISE) - targets
    variances = jnp.einsum("ja,ab,jb->j", model.Z, covariance, model.Z, precision=PRECISE)
    return jnp.mean(residuals**2 + variances)


def _require_linear(model: Model) -> None:
    linear = isinstance(model.neuron, langevin.Ridge) and model.neuron.activation == "linear" and not model.neuron.bias
    require(linear, f"neuron must be linear without bias, got {model.neuron}")
    require(isinstance(model.loss, Squared), f"loss must be squared, got {type(model.loss).__name__}")


def _log_determinant(factor: Float[Array, "D D"]) -> Scalar:
    return 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))


def _root(matrix: Float[Array, "D D"]) -> Float[Array, "D D"]:
    values, vectors = jnp.linalg.eigh(matrix)
    return jnp.matmul(vectors * jnp.sqrt(jnp.maximum(values, 0)), vectors.T, precision=PRECISE)
