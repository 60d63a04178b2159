"""Power iteration for tensors of any order q >= 2: v_{t+1} = Y[v_t, ..., v_t, .], normalised.

Richard, Montanari (NeurIPS 2014, arXiv 1411.1076) for symmetric tensors; Zhou, Basso, Mei (NeurIPS 2024, arXiv 2402.19456)
for tensors of independent entries, which are not symmetric. Pure functions; `jit`, `vmap` and the dtype (that of the
tensor) are the caller's.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from theorysim.errors import require


def step(Y: Float[Array, "..."], v: Float[Array, " n"]) -> Float[Array, " n"]:
    """Y[v, ..., v, .] divided by its Euclidean norm; NaN where that is zero.

    Y: shape (n, ..., n), of order q >= 2. v: shape (n,), of any length but zero. The last axis is left free: which one
    matters for a given tensor that is not symmetric, but not in distribution for a symmetric signal in i.i.d. noise.

    Matrix-vector products, one per contracted axis: about 2 n^q operations, nearly all of them in the first.
    Raises InputError unless Y has at least two axes, all as long as v.
    """
    require(Y.ndim >= 2, f"Y must have at least 2 axes, got {Y.ndim}")
    require(set(Y.shape) == {v.size}, f"every axis of Y must have the {v.size} entries of v, got shape {Y.shape}")
    for _ in range(Y.ndim - 1):
        # At default precision, accelerators round the factors of float32 products to 10 bits or fewer.
        Y = jnp.tensordot(v, Y, axes=1, precision=lax.Precision.HIGHEST)
    return Y / jnp.linalg.norm(Y)


def power_iteration(Y: Float[Array, "..."], v0: Float[Array, " n"], steps: int) -> Float[Array, " n"]:
    """The unit vector v_p after p = `steps` steps from `v0`, whose length does not matter; shape (n,).

    Its overlap with u in {-1, +1}^n is <v_p, u>/sqrt(n). For what happens on the way, scan over `step`.
    Raises InputError unless steps >= 1, and as `step` does.
    """
    require(steps >= 1, f"steps must be at least 1, got {steps}")
    return lax.fori_loop(0, steps, lambda _, v: step(Y, v), v0.astype(Y.dtype))


def symmetrise(Y: Float[Array, "..."]) -> Float[Array, "..."]:
    """The mean of Y over all permutations of its q axes, shape (n, ..., n).

    Independent entries of variance 1 get variance 1/q! where all indices differ.
    Raises InputError unless all axes are equally long.
    """
    require(len(set(Y.shape)) <= 1, f"all axes of Y must be equally long, got shape {Y.shape}")
    # A permutation of the axes 0..k is one of the axes 0..k-1 followed by a swap of k with one of 0..k: q (q - 1)/2
    # transpositions in all, in place of q!.
    for k in range(1, Y.ndim):
        Y = sum((jnp.swapaxes(Y, axis, k) for axis in range(k)), Y) / (k + 1)
    return Y
