"""Extreme eigenvalues of symmetric operators that are known by their products with vectors: A v = theta B v.

Rayleigh quotients on growing spaces, each enlarged by the residual of its best vector (Davidson, J. Comput. Phys. 17, 87, 1975;
Morgan, Scott, SIAM J. Sci. Stat. Comput. 7, 817, 1986), with full reorthogonalisation and thick restarts. For B = 1 the spaces are
those of Lanczos' method. Pure functions; `jit` and `vmap` are the caller's. float64 for more than five digits.

>>> smallest(lambda v: A @ v, start).value
>>> -smallest(lambda v: -(A @ v), start).value                     # the largest
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from theorysim.errors import require
from theorysim.kernels.designs import Design

Vector = Float[Array, " N"]
Scalar = Float[Array, ""]


class Eigenpair(NamedTuple):
    """value: theta = v^T A v, not below the smallest eigenvalue. vector: v with v^T B v = 1, shape (N,).

    residual: ||A v - theta B v||; theta errs by about its square over the gap. steps: products with A.
    converged: whether residual <= tolerance * max(1, |theta|).
    """

    value: Scalar
    vector: Vector
    residual: Scalar
    steps: Int[Array, ""]
    converged: Bool[Array, ""]


class _Space(NamedTuple):
    """Rows V with V B V^T = 1, their images V A and V B, T = V A V^T with zeros beyond `size`, and the next direction to add."""

    basis: Float[Array, "d N"]
    images: Float[Array, "d N"]
    metric_images: Float[Array, "d N"]
    projected: Float[Array, "d d"]
    size: Int[Array, ""]
    direction: Vector
    pair: Eigenpair


def smallest(
    product: Callable[[Vector], Vector],
    start: Vector,
    *,
    metric: Callable[[Vector], Vector] = lambda v: v,
    tolerance: Scalar | float = 1e-8,
    most_steps: int = 1000,
    dimension: int = 16,
) -> Eigenpair:
    """The smallest eigenvalue of A v = theta B v and its eigenvector.

    product: v -> A v, symmetric. start: any vector that is not orthogonal to the eigenvector, shape (N,).
    metric: v -> B v, symmetric and positive; it may be nearly singular where A is well conditioned. The identity by default.
    dimension: vectors kept, 3 * dimension * N numbers; a restart keeps the lowest quarter of them. With 40 there are a tenth to a
    quarter fewer products, but on a CPU their dense problems make the search three times as long at N = 600.

    Raises InputError unless dimension is at least 4.
    """
    require(dimension >= 4, f"dimension of the search space must be at least 4, got {dimension}")
    d = min(dimension, start.size)
    kept = max(d // 4, 1)
    rows = jnp.arange(d)

    def unfinished(pair: Eigenpair) -> Bool[Array, ""]:
        return ~pair.converged & (pair.steps < most_steps)

    def ritz(space: _Space) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        # Beyond `size` the matrix is continued by values above all others.
        above = 1 + 2 * jnp.sum(jnp.abs(space.projected))
        return jnp.linalg.eigh(space.projected + jnp.diag(jnp.where(rows < space.size, 0, above)))

    def expand(space: _Space) -> _Space:
        v = space.direction
        for _ in range(2):
            v = v / jnp.sqrt(v @ metric(v))
            v = v - (space.metric_images @ v) @ space.basis
        of_metric = metric(v)
        norm = jnp.sqrt(v @ of_metric)
        v, row = v / norm, space.size
        basis, images = space.basis.at[row].set(v), space.images.at[row].set(product(v))
        metric_images = space.metric_images.at[row].set(of_metric / norm)
        couplings = jnp.where(rows <= row, basis @ images[row], 0)
        projected = space.projected.at[row].set(couplings).at[:, row].set(couplings)
        space = _Space(basis, images, metric_images, projected, row + 1, v, space.pair)
        values, vectors = ritz(space)
        theta, lowest = values[0], vectors[:, 0]
        residual = lowest @ images - theta * (lowest @ metric_images)
        size = jnp.linalg.norm(residual)
        converged = size <= tolerance * jnp.maximum(1, jnp.abs(theta))
        pair = Eigenpair(theta, lowest @ basis, size, space.pair.steps + 1, converged)
        return space._replace(direction=residual, pair=pair)

    def restart(space: _Space) -> _Space:
        values, vectors = ritz(space)
        low = jnp.where(rows < kept, vectors, 0).T
        return space._replace(
            basis=low @ space.basis,
            images=low @ space.images,
            metric_images=low @ space.metric_images,
            projected=jnp.diag(jnp.where(rows < kept, values, 0)),
            size=jnp.asarray(kept, space.size.dtype),
        )

    def cycle(space: _Space) -> _Space:
        space = lax.while_loop(lambda s: unfinished(s.pair) & (s.size < d), expand, space)
        return lax.cond(unfinished(space.pair), restart, lambda s: s, space)

    zeros = jnp.zeros((d, start.size), start.dtype)
    count = jnp.zeros((), jnp.int32)
    nothing = Eigenpair(jnp.zeros((), start.dtype), start, jnp.full((), jnp.inf, start.dtype), count, count > 0)
    space = _Space(zeros, zeros, zeros, jnp.zeros((d, d), start.dtype), count, start, nothing)
    return lax.while_loop(lambda s: unfinished(s.pair), cycle, space).pair


def operator_norm(design: Design, start: Float[Array, " p"], *, tolerance: Scalar | float = 1e-6) -> Scalar:
    """|X|, the largest singular value, to a relative error of the order of tolerance squared; from a random start."""
    gram = lambda v: design.residual(jnp.zeros(design.shape[0], v.dtype), v)[1]  # -X^T X v
    return jnp.sqrt(-smallest(gram, start, tolerance=tolerance).value)
