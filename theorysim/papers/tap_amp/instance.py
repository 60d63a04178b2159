"""Drawing a linear model, and Bayes AMP on it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import random
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Key

from theorysim.kernels import amp, designs
from theorysim.kernels.designs import Dense, Design
from theorysim.kernels.priors import Prior
from theorysim.papers.tap_amp.setting import LinearModel


class Instance(NamedTuple):
    """design: X, (n, p). target: beta0, (p,). response: y, (n,)."""

    design: Dense
    target: Float[Array, " p"]
    response: Float[Array, " n"]


def draw(key: Key[Array, ""], model: LinearModel, dtype: jnp.dtype | type = jnp.float64) -> Instance:
    """One instance of a model."""
    n, p = model.n, model.p
    prior = model.prior.kernel()
    # One call for everything: each one is a program of its own to compile.
    own = 0 if model.entries != "gaussian" else n * p
    normals = designs.gaussian(random.fold_in(key, 1), (own + n + p,), jnp.dtype(dtype))
    X = normals[: n * p].reshape(n, p) / p**0.5 if own else _entries(random.fold_in(key, 2), model, dtype)
    target = prior.transform(ndtr(normals[own : own + p]), jnp.zeros(p, dtype), jnp.zeros(p, dtype))
    return Instance(Dense(X), target, X @ target + jnp.asarray(model.sigma, dtype) * normals[own + p :])


def _entries(key: Key[Array, ""], model: LinearModel, dtype: jnp.dtype | type) -> Float[Array, "n p"]:
    n, p = model.n, model.p
    if model.entries == "cauchy":
        return random.cauchy(key, (n, p), dtype) / p**0.5
    if model.entries == "shifted":
        return (designs.gaussian(key, (n, p), jnp.dtype(dtype)) + 0.5) / p**0.5
    laws = {
        "rademacher": designs.rademacher,
        "sparse-signs": designs.sparse_signs,
        "uniform": designs.uniform,
        "student-t5": designs.student_t5,
    }
    return designs.sample(key, laws[model.entries], n, p, dtype)


def uninformed(prior: Prior, design: Design, response: Float[Array, " n"]) -> amp.State:
    """The uninformative start of AMP: mean and variance of the prior."""
    zero = jnp.zeros((), response.dtype)
    moments = prior.moments(zero, zero)
    return amp.init(design, response, moments.mean, moments.variance)
