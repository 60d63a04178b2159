"""Exact posteriors of Bayesian linear models y = X beta + N(0, sigma^2 I_n), beta_j ~ P0: Gibbs sampling, and enumeration.

The conditional law of beta_j given the others is the tilted prior P_{lam,gam} (`theorysim.kernels.priors`) with

    gam = ||X_j||^2/sigma^2,    lam = (X_j^T y - (X^T X beta)_j + ||X_j||^2 beta_j)/sigma^2,

so that with X^T X beta maintained an update costs O(p) a chain, and all chains take the coordinates in the same order. Averages
are of conditional moments (Rao-Blackwell). Any prior; no assumption on X, but chains move slowly between modes where sigma is
small: then chains disagree, and `mean_variance` is large. Pure functions; `jit` and `vmap` are the caller's.

>>> posterior = run(key, X, y, sigma**2, prior, chains=64, sweeps=160, burn_in=40)
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from theorysim.errors import require
from theorysim.kernels.priors import Discrete, Prior, sample

Vector = Float[Array, " p"]
Scalar = Float[Array, ""]
Chains = Float[Array, "p chains"]

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""

MOST_CONFIGURATIONS = 600_000
"""That `enumerate_posterior` makes a table of."""


class Problem(NamedTuple):
    """gram: X^T X, shape (p, p). correlation: X^T y, shape (p,). noise: sigma^2, shape ()."""

    gram: Float[Array, "p p"]
    correlation: Vector
    noise: Scalar


class State(NamedTuple):
    """beta: shape (p, chains). product: X^T X beta, shape (p, chains)."""

    beta: Chains
    product: Chains


class Posterior(NamedTuple):
    """Estimates of the moments of beta_j given y, shapes (p,).

    mean, second_moment: averages over chains and sweeps of conditional ones.
    mean_variance: variance of `mean` as an estimate, from the differences between chains: what it adds to squared errors.
    state: of the chains after the last sweep.
    """

    mean: Vector
    second_moment: Vector
    mean_variance: Vector
    state: State


def problem(X: Float[Array, "n p"], y: Float[Array, " n"], noise: Scalar | float) -> Problem:
    """What the sampler needs of the data."""
    gram = jnp.matmul(X.T, X, precision=PRECISE)
    return Problem(gram, jnp.matmul(y, X, precision=PRECISE), jnp.asarray(noise, X.dtype))


def init(problem: Problem, beta: Chains) -> State:
    """Chains at beta."""
    return State(beta, jnp.matmul(problem.gram, beta, precision=PRECISE))


def sweep(key: Key[Array, ""], state: State, problem: Problem, prior: Prior) -> tuple[State, tuple[Chains, Chains]]:
    """Each coordinate redrawn once in every chain: (new state, (means, second moments) of the laws they were drawn from)."""

    def update(product: Chains, coordinate: tuple[Array, ...]) -> tuple[Chains, tuple[Array, Array, Array]]:
        index, row, correlation, beta, uniform = coordinate
        gam = row[index] / problem.noise
        lam = (correlation - product[index]) / problem.noise + gam * beta
        new = prior.transform(uniform, lam, gam)
        moments = prior.moments(lam, gam)
        return product + row[:, None] * (new - beta), (new, moments.mean, moments.second_moment)

    beta, product = state
    uniform = random.uniform(key, beta.shape, beta.dtype, minval=float(jnp.finfo(beta.dtype).eps) / 2)
    coordinates = (jnp.arange(len(beta)), problem.gram, problem.correlation, beta, uniform)
    product, (beta, means, second_moments) = lax.scan(update, product, coordinates)
    return State(beta, product), (means, second_moments)


def run(
    key: Key[Array, ""],
    X: Float[Array, "n p"],
    y: Float[Array, " n"],
    noise: Scalar | float,
    prior: Prior,
    *,
    chains: int,
    sweeps: int,
    burn_in: int,
) -> Posterior:
    """Chains from independent draws of the prior, the first `burn_in` of `sweeps` sweeps left out of the averages.

    Raises InputError unless chains >= 2 and 0 <= burn_in < sweeps.
    """
    require(chains >= 2, f"chains must be at least 2, got {chains}")
    require(0 <= burn_in < sweeps, f"burn_in must lie in 0 ... {sweeps - 1} for {sweeps} sweeps, got {burn_in}")
    of_start, of_sweeps = random.split(key)
    data = problem(X, y, noise)
    zeros = jnp.zeros((X.shape[1], chains), X.dtype)
    start = init(data, sample(of_start, prior, zeros, zeros))

    def advance(carry: tuple[State, Chains, Chains], index: Array) -> tuple[tuple[State, Chains, Chains], None]:
        state, means, second_moments = carry
        state, (mean, second_moment) = sweep(random.fold_in(of_sweeps, index), state, data, prior)
        counts = index >= burn_in
        return (state, means + jnp.where(counts, mean, 0), second_moments + jnp.where(counts, second_moment, 0)), None

    (state, means, second_moments), _ = lax.scan(advance, (start, zeros, zeros), jnp.arange(sweeps))
    of_chains = means / (sweeps - burn_in)
    return Posterior(
        mean=jnp.mean(of_chains, axis=1),
        second_moment=jnp.mean(second_moments, axis=1) / (sweeps - burn_in),
        mean_variance=jnp.var(of_chains, axis=1, ddof=1) / chains,
        state=state,
    )


class Exact(NamedTuple):
    """The posterior of a discrete prior, every configuration counted.

    log_evidence: log p(y | X), shape (). probabilities: P(beta_j = b_k | y), shape (p, K). mean, second_moment: shapes (p,).
    """

    log_evidence: Scalar
    probabilities: Float[Array, "p K"]
    mean: Vector
    second_moment: Vector


def enumerate_posterior(X: Float[Array, "n p"], y: Float[Array, " n"], noise: Scalar | float, prior: Discrete) -> Exact:
    """The exact posterior from all K^p configurations, whose table is K^p p numbers.

    Raises InputError where K^p is beyond 600 000.
    """
    (n, p), K = X.shape, prior.atoms.shape[0]
    require(
        K**p <= MOST_CONFIGURATIONS, f"{K} atoms to the power p = {p} must be at most {MOST_CONFIGURATIONS}, got {K**p}"
    )
    digits = jnp.arange(K**p)[:, None] // jnp.asarray(K ** np.arange(p)) % K
    atoms, log_weights = jnp.asarray(prior.atoms, X.dtype), jnp.log(jnp.asarray(prior.weights, X.dtype))
    residuals = y - jnp.matmul(atoms[digits], X.T, precision=PRECISE)
    logs = jnp.sum(log_weights[digits], axis=1) - jnp.sum(residuals**2, axis=1) / (2 * noise)
    log_evidence = logsumexp(logs)
    weights = jnp.exp(logs - log_evidence)
    probabilities = jnp.stack([jnp.matmul(weights, digits == k, precision=PRECISE) for k in range(K)], axis=1)
    of_noise = n / 2 * jnp.log(2 * np.pi * jnp.asarray(noise, X.dtype))
    return Exact(log_evidence - of_noise, probabilities, probabilities @ atoms, probabilities @ atoms**2)
