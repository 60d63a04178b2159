"""One-layer linear attention on ReLU features, pretrained in two stages: one gradient step on the features, then ridge regression.

The prediction for the query x of a prompt with examples (x_i, y_i), i = 1..N, is

    f_hat = <Gamma psi, phi(x)>,    psi = (1/N) sum_i y_i phi(x_i),    phi(x) = relu(W x + b) in R^m,

with the layerwise training of Oko, Song, Suzuki, Wu (NeurIPS 2024, arXiv 2411.02544), Algorithm 1. Data are the prompts of
`theorysim.kernels.prompts`, drawn as they are needed; directions lie in the first r coordinates.

>>> g = stage_one(key, law, W, b, prompts=20_000, length=512).mean
>>> W, b = rescale(signs[:, None] * g, 1.5), random.uniform(other, (m,), minval=-2, maxval=2)
>>> Gamma = ridge_dual(features(key, law, W, b, prompts=3000, length=256), 1e-4)
>>> error = risk(features(fresh, law, W, b, prompts=4000, length=64), Gamma)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Bool, Float, Int, Key

from theorysim.errors import require
from theorysim.kernels.prompts import PromptLaw, Prompts, sampler

Scalar = Float[Array, ""]
Neurons = Float[Array, "m d"]

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""

TOGETHER = {"cpu": (2**20, 2**8), "other": (2**27, 2**14)}
"""Most inputs and preactivations, and most prompts, that are treated together: a share of the cache of a CPU core, or of an
accelerator's memory; and few beside all prompts, since the last chunk is computed in full."""


# --- stage one: one gradient step on the features ---------------------------------------------------------------------


class OneStep(NamedTuple):
    """Sums over prompts of the gradient statistics g_t of the single prompts, shape (m, d).

    total, error: the sum of g_t is total + error, in twice the precision of the numbers. square: sum of |g_t|^2, and
    inside: sum of |Pi g_t|^2, shapes (m,), Pi the projection on the first r coordinates. prompts: how many.
    """

    total: Neurons
    error: Neurons
    square: Float[Array, " m"]
    inside: Float[Array, " m"]
    prompts: Int[Array, ""]

    @property
    def mean(self) -> Neurons:
        """g: the gradient of the loss is -2 Gamma_jj g_j in the limit of a small Gamma."""
        return (self.total + self.error) / self.prompts

    def __add__(self, other: Any) -> OneStep:
        """Of two disjoint sets of prompts."""
        total, error = _two_sum(self.total, other.total)
        rest = (a + b for a, b in zip(self[2:], other[2:], strict=True))
        return OneStep(*_two_sum(total, error + self.error + other.error), *rest)


def stage_one(
    key: Key[Array, ""],
    law: PromptLaw,
    W: Neurons,
    b: Float[Array, " m"],
    *,
    prompts: Int[Array, ""] | int,
    length: int,
    first: Int[Array, ""] | int = 0,
    chunk: int | None = None,
) -> OneStep:
    """Statistics of the prompts first, ..., first + prompts - 1 of the stream of `key`, drawn and forgotten chunk by chunk.

    With p_j = (1/N) sum_i y_i relu(h_ij), q_j = (1/N) sum_i y_i 1[h_ij > 0] x_i, h_ij = <w_j, x_i> + b_j, and the query (x, y),
    a prompt has g_j = y (relu(h_j) q_j + 1[h_j > 0] p_j x).

    chunk: prompts at a time; by default as `TOGETHER` has it. It changes results by rounding errors alone, and `first` divides
    the work among devices or calls: `OneStep`s add up. The dtype is that of W. Two matrix products, 4 N m d flops a prompt.

    Raises InputError unless shapes agree, length >= 1 and chunk >= 1.
    """
    m, b = _check_neurons(law, W, b)
    require(length >= 1, f"length of a prompt must be at least 1, got {length}")
    size = _chunk_size(chunk, length, m + law.d)
    first, prompts = jnp.asarray(first, jnp.uint32), jnp.asarray(prompts, jnp.int32)

    draw = sampler(key, law, length=length, dtype=W.dtype)

    def advance(k: Int[Array, ""], sums: OneStep) -> OneStep:
        count = k * size + lax.iota(jnp.int32, size)
        batch = draw(first + count.astype(jnp.uint32))
        # Labels of zero make a prompt count for nothing.
        g, square, inside = _gradient_sums(batch, jnp.where(count < prompts, batch.y[:, -1], 0), W, b, law.r)
        return sums + OneStep(g, jnp.zeros_like(g), square, inside, jnp.zeros((), jnp.int32))

    zeros = jnp.zeros_like(b)
    start = OneStep(jnp.zeros_like(W), jnp.zeros_like(W), zeros, zeros, prompts)
    return lax.fori_loop(0, (prompts + size - 1) // size, advance, start)


def gradient(batch: Prompts, W: Neurons, b: Float[Array, " m"], gamma: Float[Array, " m"]) -> Neurons:
    """grad_W of the mean of (y - f_hat)^2 over prompts, with Gamma = diag(gamma) of any size: -2 gamma_j g_j with y - f_hat as the
    query's factor in g_j."""
    residual = batch.y[:, -1] - predictions(context_features(batch, W, b), jnp.diag(gamma))
    g, _, _ = _gradient_sums(batch, residual, W, b, 0)
    return -2 * gamma[:, None] * g / len(residual)


def rescale(W: Neurons, norm: Scalar | float) -> Neurons:
    """Neurons of equal norm. Without it norms go as |Pi w_j|^{2Q-1} of the initial neurons, a range that makes ridge regression
    ill-conditioned."""
    return norm * W / jnp.linalg.norm(W, axis=1, keepdims=True)


def _gradient_sums(
    batch: Prompts, target: Float[Array, " B"], W: Neurons, b: Float[Array, " m"], r: int
) -> tuple[Neurons, Float[Array, " m"], Float[Array, " m"]]:
    """Sums over prompts of g_t, |g_t|^2 and |Pi g_t|^2, with `target` as the query's factor."""
    N = batch.X.shape[1] - 1

    def one(prompt: tuple[Array, Array, Array]) -> tuple[Neurons, Float[Array, " m"], Float[Array, " m"]]:
        X, y, t = prompt
        context, query = X[:-1], X[-1]
        # Neurons along rows: the second product then has its long axis where a CPU wants it.
        h = jnp.matmul(W, context.T, precision=PRECISE) + b[:, None]
        weights = jnp.where(h > 0, y[:-1] / N, 0)
        q = jnp.matmul(weights, context, precision=PRECISE)
        p = jnp.sum(W * q, axis=1) + b * jnp.sum(weights, axis=1)  # relu(h) = 1[h > 0] h
        h = jnp.matmul(W, query, precision=PRECISE) + b
        g = t * (jax.nn.relu(h)[:, None] * q + jnp.where(h > 0, p, 0)[:, None] * query)
        return g, jnp.sum(g * g, axis=1), jnp.sum(g[:, :r] ** 2, axis=1)

    prompts = (batch.X, batch.y, target)
    if jax.default_backend() == "cpu":  # one by one: what a prompt needs stays in the cache
        add = lambda sums, prompt: (jax.tree.map(jnp.add, sums, one(prompt)), None)
        zeros = jnp.zeros_like(b)
        return lax.scan(add, (jnp.zeros_like(W), zeros, zeros), prompts)[0]
    return jax.tree.map(lambda terms: jnp.sum(terms, axis=0), jax.vmap(one)(prompts))


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b and its rounding error, exactly (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


# --- stage two: ridge regression on the attention matrix --------------------------------------------------------------


class Features(NamedTuple):
    """What attention sees of T prompts, and their queries' labels.

    context: psi, shape (T, m). query: phi(x), shape (T, m). y: labels. f: labels without noise.
    """

    context: Float[Array, "T m"]
    query: Float[Array, "T m"]
    y: Float[Array, " T"]
    f: Float[Array, " T"]


def features(
    key: Key[Array, ""],
    law: PromptLaw,
    W: Neurons,
    b: Float[Array, " m"],
    *,
    prompts: int,
    length: int,
    chunk: int | None = None,
) -> Features:
    """Of the prompts 0, ..., prompts - 1 of the stream of `key`. chunk, dtype, what is raised: as in `stage_one`."""
    m, b = _check_neurons(law, W, b)
    require(length >= 1, f"length of a prompt must be at least 1, got {length}")
    require(prompts >= 1, f"number of prompts must be at least 1, got {prompts}")
    size = min(_chunk_size(chunk, length, m + law.d), prompts)

    draw = sampler(key, law, length=length, dtype=W.dtype)
    part = lambda k: context_features(draw(k * size + lax.iota(jnp.int32, size)), W, b)
    parts = lax.map(part, lax.iota(jnp.int32, -(-prompts // size)))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:prompts], parts)


def context_features(batch: Prompts, W: Neurons, b: Float[Array, " m"]) -> Features:
    """Of given prompts."""
    H = jax.nn.relu(jnp.einsum("tnd,md->tnm", batch.X, W, precision=PRECISE) + b)
    psi = jnp.einsum("tn,tnm->tm", batch.y[:, :-1], H[:, :-1], precision=PRECISE) / (batch.y.shape[1] - 1)
    return Features(psi, H[:, -1], batch.y[:, -1], batch.f[:, -1])


def ridge_dual(seen: Features, lam: Float[Array, "*L"] | float) -> Float[Array, "*L m m"]:
    """argmin over Gamma of (1/T) sum_t (y_t - <Gamma psi_t, phi_t>)^2 + (lam/2) |Gamma|_F^2, by Cholesky in R^T.

    alpha = (K + (lam T/2) I)^{-1} y with K = (Psi Psi^T) o (Phi Phi^T), Gamma = Phi^T diag(alpha) Psi; 4 T^2 m flops, and T^3/3
    for each lam, one number or a vector. For use in float64; NaN where the matrix is numerically singular.
    """
    K = _product(seen.context, seen.context.T) * _product(seen.query, seen.query.T)

    def solve(lam: Scalar | float) -> Float[Array, "m m"]:
        alpha = _solve(K, _ridge(seen, lam), seen.y)
        return _product(seen.query.T * alpha, seen.context)

    return solve(lam) if jnp.ndim(lam) == 0 else lax.map(solve, lam)


def ridge_primal(seen: Features, lam: Scalar | float) -> Float[Array, "m m"]:
    """The same by normal equations for the m^2 entries of Gamma: m^6/3 flops and m^4 numbers, for m up to 60."""
    T, m = seen.context.shape
    design = (seen.query[:, :, None] * seen.context[:, None, :]).reshape(T, m * m)
    solution = _solve(_product(design.T, design), _ridge(seen, lam), _product(design.T, seen.y))
    return solution.reshape(m, m)


class Iterated(NamedTuple):
    """Gamma: the last iterate. residual: |A Gamma - B|_F/|B|_F of the normal equations. steps: taken."""

    Gamma: Float[Array, "m m"]
    residual: Scalar
    steps: Int[Array, ""]


def ridge_iterative(
    seen: Features, lam: Scalar | float, *, tolerance: Scalar | float = 1e-10, steps: Int[Array, ""] | int = 10_000
) -> Iterated:
    """The same by conjugate gradients, preconditioned by the diagonal: 4 T m^2 flops a step, for large T and m.

    Stops at a relative residual of `tolerance`, or after `steps`.
    """
    ridge = _ridge(seen, lam)
    weigh = lambda weights: _product(seen.query.T * weights, seen.context)
    apply = lambda Gamma: weigh(predictions(seen, Gamma)) + ridge * Gamma
    scale = _product((seen.query**2).T, seen.context**2) + ridge
    target = weigh(seen.y)
    norm = jnp.linalg.norm(target)

    def unfinished(state: tuple[Array, ...]) -> Bool[Array, ""]:
        _, residual, _, _, k = state
        return (k < steps) & (jnp.linalg.norm(residual) > tolerance * norm)

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        Gamma, residual, direction, power, k = state
        image = apply(direction)
        length = power / jnp.sum(direction * image)
        Gamma, residual = Gamma + length * direction, residual - length * image
        new = jnp.sum(residual * residual / scale)
        return Gamma, residual, residual / scale + new / power * direction, new, k + 1

    start = (jnp.zeros_like(target), target, target / scale, jnp.sum(target * target / scale), jnp.int32(0))
    Gamma, *_, k = lax.while_loop(unfinished, advance, start)
    return Iterated(Gamma, jnp.linalg.norm(target - apply(Gamma)) / norm, k)


def _ridge(seen: Features, lam: Scalar | float) -> Scalar:
    return jnp.asarray(lam * len(seen.y) / 2, seen.y.dtype)


def _solve(matrix: Float[Array, "n n"], ridge: Scalar, target: Float[Array, " n"]) -> Float[Array, " n"]:
    return cho_solve(cho_factor(matrix + ridge * jnp.eye(len(target), dtype=target.dtype)), target)


_product = functools.partial(jnp.matmul, precision=PRECISE)


# --- predictions and risk ---------------------------------------------------------------------------------------------


def predictions(seen: Features, Gamma: Float[Array, "m m"]) -> Float[Array, " T"]:
    """f_hat = <Gamma psi, phi>."""
    return jnp.sum(_product(seen.context, Gamma.T) * seen.query, axis=1)


def label_linear(
    batch: Prompts, weight: Callable[[Float[Array, "N d"], Float[Array, " d"]], Float[Array, " N"]]
) -> Float[Array, " T"]:
    """(1/N) sum_i y_i G(x_i, x) for any attention kernel G, the function (context X, query x) -> G(x_i, x), i = 1..N."""

    def one(X: Float[Array, "N d"], y: Float[Array, " N"]) -> Scalar:
        return jnp.mean(y[:-1] * weight(X[:-1], X[-1]))

    return jax.vmap(one)(batch.X, batch.y)


class Risk(NamedTuple):
    """Means over prompts. squared: (f_hat - f)^2. absolute: |f_hat - y|. Each with its standard error."""

    squared: Scalar
    squared_error: Scalar
    absolute: Scalar
    absolute_error: Scalar


def risk(seen: Features, Gamma: Float[Array, "m m"]) -> Risk:
    """Of a trained model, on fresh prompts. `vmap` over Gamma compares several on the same prompts."""
    f_hat = predictions(seen, Gamma)
    mean = lambda x: (jnp.mean(x), jnp.std(x, ddof=1) / jnp.sqrt(len(x)))
    return Risk(*mean((f_hat - seen.f) ** 2), *mean(jnp.abs(f_hat - seen.y)))


def _check_neurons(law: PromptLaw, W: Neurons, b: Float[Array, " m"]) -> tuple[int, Float[Array, " m"]]:
    """m, and b in the dtype of W."""
    m, d = W.shape
    require(d == law.d, f"neurons W must have dimension d = {law.d} as the prompts, got {d}")
    require(b.shape == (m,), f"biases b must have shape ({m},) as W has {m} rows, got {b.shape}")
    return m, b.astype(W.dtype)


def _chunk_size(chunk: int | None, length: int, width: int) -> int:
    if chunk is None:
        numbers, prompts = TOGETHER["cpu" if jax.default_backend() == "cpu" else "other"]
        return min(max(numbers // (length * width), 1), prompts)
    require(chunk >= 1, f"chunk must be at least 1, got {chunk}")
    return chunk
