"""Z2 synchronisation: x in {-1, 1}^n from Y = (l/n) x x^T + W by principal components, message passing and the TAP free energy.

W is symmetric with independent N(0, 1/n) entries, N(0, 2/n) on the diagonal; l is `snr`. Message passing and mutual information:
Deshpande, Abbe, Montanari, Inf. Inference 6, 125, 2017. TAP free energy: Fan, Mei, Montanari, Ann. Probab. 49, 1, 2021.
Magnetisations m = tanh(h) are carried by their fields h, which do not saturate. Pure functions of one instance; `jit` and `vmap`
are the caller's, the dtype is that of Y.

>>> Y, x = instance(key, n, snr)
>>> state, trace = run(spectral_start(principal(Y, start).vector, snr), Y, snr, steps=30)
>>> energy(state.field, Y, snr), smallest_eigenvalue(state.field, Y, snr, start).value
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Key

from theorysim.errors import require
from theorysim.kernels import eigenvalues
from theorysim.kernels.designs import PRECISE, DType, gaussian
from theorysim.kernels.eigenvalues import Eigenpair

Matrix = Float[Array, "n n"]
Vector = Float[Array, " n"]
Scalar = Float[Array, ""]
SNR = Float[Array, ""] | float


class Instance(NamedTuple):
    """matrix: Y, symmetric, shape (n, n). signal: x in {-1, 1}^n, shape (n,)."""

    matrix: Matrix
    signal: Vector


def instance(key: Key[Array, ""], n: int, snr: SNR, dtype: DType = jnp.float32) -> Instance:
    """A uniform x and its noisy products. Raises InputError unless n is at least 1."""
    require(n >= 1, f"number n of spins must be at least 1, got {n}")
    of_noise, of_signal = random.split(key)
    G = gaussian(of_noise, (n, n), jnp.dtype(dtype))
    x = random.rademacher(of_signal, (n,), dtype)
    return Instance(snr / n * jnp.outer(x, x) + (G + G.T) / np.sqrt(2 * n).astype(dtype), x)


def principal(matrix: Matrix, start: Vector, *, tolerance: Scalar | float = 1e-6) -> Eigenpair:
    """The largest eigenvalue and its eigenvector of norm 1, of either sign; from a random start."""
    pair = eigenvalues.smallest(lambda v: -_times(matrix, v), start, tolerance=tolerance)
    return pair._replace(value=-pair.value)


# --- message passing --------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """field: h_t with m_t = tanh(h_t), shape (n,). previous: m_{t-1}, shape (n,)."""

    field: Vector
    previous: Vector

    @property
    def mean(self) -> Vector:
        """m_t."""
        return jnp.tanh(self.field)


class Summary(NamedTuple):
    """Of one step: square = Q = ||m||^2/n of the new m; change = ||m_{t+1} - m_t||/sqrt(n)."""

    square: Scalar
    change: Scalar


def spectral_start(vector: Vector, snr: SNR) -> State:
    """The Bayes estimate from the principal eigenvector v alone, l > 1 (NaN otherwise): h = sqrt(n) v l sqrt(l^2 - 1).

    sqrt(n) v is a channel of signal-to-noise ratio l^2 - 1. h is a step of message passing with m = sqrt(n) v sqrt(l^2 - 1)/l, its
    `previous`, both now and before, so that state evolution holds from there on. x is found up to the sign of v.
    """
    size = jnp.sqrt(vector.size * (jnp.asarray(snr, vector.dtype) ** 2 - 1))
    return State(snr * size * vector, size / snr * vector)


def step(state: State, matrix: Matrix, snr: SNR, *, reaction: Float[Array, ""] | float = 1.0) -> State:
    """h_{t+1} = l Y m_t - l^2 (1 - Q_t) m_{t-1}.

    reaction: factor of the last term, Onsager's. Its fixed points are the stationary points of `energy` at 1, and of the naive
    mean-field free energy at 0.
    """
    m = state.mean
    onsager = snr**2 * (1 - jnp.mean(m**2))
    return State(snr * _times(matrix, m) - reaction * onsager * state.previous, m)


def summary(before: State, after: State) -> Summary:
    """What `run` records by default."""
    return Summary(jnp.mean(after.mean**2), jnp.sqrt(jnp.mean((after.mean - before.mean) ** 2)))


def run(
    state: State,
    matrix: Matrix,
    snr: SNR,
    *,
    steps: int,
    reaction: Float[Array, ""] | float = 1.0,
    observe: Callable[[State, State], Any] = summary,
) -> tuple[State, Any]:
    """A fixed number of steps; arguments as of `step`.

    observe: (state before, state after) -> what to record of a step; each leaf of the trace gets a leading axis of length `steps`.
    Returns (last state, trace). Raises InputError unless steps is at least 1.
    """
    require(steps >= 1, f"steps must be at least 1, got {steps}")

    def advance(state: State, _: None) -> tuple[State, Any]:
        after = step(state, matrix, snr, reaction=reaction)
        return after, observe(state, after)

    return lax.scan(advance, state, length=steps)


# --- free energy ------------------------------------------------------------------------------------------------------


def energy(field: Vector, matrix: Matrix, snr: SNR, *, reaction: Float[Array, ""] | float = 1.0) -> Scalar:
    """The TAP free energy per spin at m = tanh(h),

        F = -(1/n) sum h2((1 + m_i)/2) - (l/2n) m^T Y m - (l^2/4) (1 - Q)^2,

    h2 the binary entropy in nats. Its minimum tends to I(x; Y)/n - log 2 - l^2/2. reaction: factor of the last term.
    """
    m = jnp.tanh(field)
    # log(2 cosh h) - h tanh h
    entropy = jnp.mean(jnp.logaddexp(field, -field) - field * m)
    return -entropy - snr * (m @ _times(matrix, m)) / (2 * m.size) - reaction * (snr * (1 - jnp.mean(m**2)) / 2) ** 2


def gradient(field: Vector, matrix: Matrix, snr: SNR, *, reaction: Float[Array, ""] | float = 1.0) -> Vector:
    """n dF/dm = h - l Y m + l^2 (1 - Q) m at m = tanh(h), shape (n,). reaction: factor of the last term."""
    m = jnp.tanh(field)
    return field - snr * _times(matrix, m) + reaction * snr**2 * (1 - jnp.mean(m**2)) * m


def hessian_product(
    field: Vector, matrix: Matrix, snr: SNR, v: Vector, *, reaction: Float[Array, ""] | float = 1.0
) -> Vector:
    """n d^2F/dm^2 v = cosh(h)^2 v - l Y v + l^2 (1 - Q) v - (2 l^2/n) m (m.v), shape (n,).

    reaction: factor of the last two terms, which come from F's last one.
    """
    return jnp.cosh(field) ** 2 * v + _coupling(field, matrix, snr, v, reaction)


def smallest_eigenvalue(
    field: Vector,
    matrix: Matrix,
    snr: SNR,
    start: Vector,
    *,
    reaction: Float[Array, ""] | float = 1.0,
    tolerance: Scalar | float = 1e-6,
) -> Eigenpair:
    """Of n d^2F/dm^2, with its eigenvector v of norm 1; from a random start.

    Found from u = cosh(h) v, for which the terms on the diagonal are ones, however large the fields are.
    """
    root = 1 / jnp.cosh(field)
    product = lambda u: u + root * _coupling(field, matrix, snr, root * u, reaction)
    metric = lambda u: root**2 * u
    pair = eigenvalues.smallest(product, metric(start), metric=metric, tolerance=tolerance)
    return pair._replace(vector=root * pair.vector)


# --- parts ------------------------------------------------------------------------------------------------------------


def _times(matrix: Matrix, v: Vector) -> Vector:
    """Y v, as v^T Y: the orientation that runs along the rows of Y."""
    return jnp.matmul(v, matrix, precision=PRECISE)


def _coupling(field: Vector, matrix: Matrix, snr: SNR, v: Vector, reaction: Float[Array, ""] | float) -> Vector:
    """n d^2F/dm^2 v less its first term."""
    m = jnp.tanh(field)
    return reaction * snr**2 * ((1 - jnp.mean(m**2)) * v - 2 * jnp.mean(m * v) * m) - snr * _times(matrix, v)
