"""QAOA on n qubits when the cost depends on the number of flipped spins alone: state vectors of length n + 1, n to 10^4.

Such a circuit, started in the uniform superposition, stays in the span of the Dicke states |k>, the normalised sums of
all strings z in {-1, +1}^n with k entries -1 (any fixed string u may take the place of all ones: k then counts z_j != u_j).
Layers are e^{-i beta B} e^{-i gamma C} with B = sum_j X_j and C diagonal, the convention of Zhou, Basso, Mei
(NeurIPS 2024, arXiv 2402.19456), whose noise-free cost is C_k = lam n (1 - 2k/n)^q. Any other cost is a vector as well.

In this space B = 2 J_x is tridiagonal with eigenvalues -n, -n + 2, ..., n, so that e^{-i beta B} is a Chebyshev series
of matrix-vector products (Tal-Ezer, Kosloff, J. Chem. Phys. 81, 3967, 1984), about pi n/4 of them after beta is reduced to
[-pi/4, pi/4]. Pure functions; `jit`, `vmap` over costs and angles, and the dtype (that of the cost) are the caller's.

>>> probabilities = distribution(lam * n * overlaps(n) ** q, gammas, betas)
>>> second_moment = probabilities @ overlaps(n) ** 2
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from theorysim.errors import require

# Amplitudes psi_k in the frame (-i)^k, psi_k = (-i)^k (state[0, k] + i state[1, k]): the mixer is a real rotation there.
State = Float[Array, "2 levels"]
Scalar = Float[Array, ""]


def overlaps(n: int) -> Float[Array, " levels"]:
    """m_k = (1/n) sum_j z_j = 1 - 2k/n of the strings with k entries -1, k = 0..n, shape (n + 1,).

    Raises InputError unless n >= 1.
    """
    require(n >= 1, f"n must be at least 1, got {n}")
    return (n - 2 * jnp.arange(n + 1)) / n


def init(n: int, dtype: jnp.dtype | type) -> State:
    """The uniform superposition |s>, psi_k = sqrt(C(n, k) 2^{-n}), in the frame of `State`."""
    top = n - n // 2
    k = np.arange(top + 1, n + 1)
    # Outwards from the centre, by ratios C(n, k)/C(n, k - 1): differences of lgamma would lose log10(n) more digits.
    upper = np.cumprod(np.concatenate([[1.0], (n + 1 - k) / k]))
    weights = np.concatenate([upper[::-1][:top], upper])
    frame = np.array([[1, 0, -1, 0], [0, 1, 0, -1]])[:, np.arange(n + 1) % 4]  # i^k
    return jnp.asarray(frame * np.sqrt(weights / weights.sum()), dtype)


def _couplings(n: int) -> Float[np.ndarray, " n"]:
    """<k| J_x |k - 1> times 2 for k = 1..n."""
    k = np.arange(1, n + 1)
    return np.sqrt(k * (n + 1 - k))


def _rotate(couplings: Float[Array, " n"], state: State) -> State:
    """The real antisymmetric generator of the mixer: -i B in the frame of `State`, for `couplings` of B."""
    zero = jnp.zeros_like(state[:, :1])
    from_below = jnp.concatenate([zero, couplings * state[:, :-1]], axis=1)
    from_above = jnp.concatenate([couplings * state[:, 1:], zero], axis=1)
    return from_below - from_above


def _bessel(x: Scalar, count: int) -> Float[Array, " count"]:
    """J_0(x), ..., J_{count-1}(x), where J_k(x) is negligible from k = count on.

    Fourier coefficients of e^{i x sin t}; unlike a downward recurrence nothing overflows at small x.
    """
    points = 1 << (2 * count).bit_length()
    sine = jnp.asarray(np.sin(2 * np.pi * np.arange(points) / points), x.dtype)
    return jnp.fft.fft(lax.complex(jnp.cos(x * sine), jnp.sin(x * sine))).real[:count] / points


@jax.custom_jvp
def mix(state: State, beta: Scalar | float) -> State:
    """e^{-i beta B} |state>, up to a sign common to all amplitudes; any real beta.

    Derivatives, forward or reverse and of any order, cost further mixers; no term of the series is stored for them.
    """
    n = state.shape[1] - 1
    beta = jnp.asarray(beta, state.dtype)
    # e^{-i (pi/2) B} = prod_j (-i X_j) only relabels k -> n - k; it takes beta to [-pi/4, pi/4].
    quarter_turns = jnp.round(beta / (np.pi / 2))
    signs = jnp.asarray((-1.0) ** (n - np.arange(n + 1)), state.dtype)
    state = jnp.where(quarter_turns % 2 == 1, signs * state[:, ::-1], state)
    angle = beta - quarter_turns * (np.pi / 2)

    # e^{y X} = J_0(y) + 2 sum_k J_k(y) U_k for ||X|| <= 1 antisymmetric, U_0 = 1, U_1 = X, U_{k+1} = 2 X U_k + U_{k-1}.
    # J_k(y) falls like Ai(2^{1/3} c) at k = y + c y^{1/3}: below 1e-17 at c = 12.
    largest = np.pi / 4 * n
    coefficients = _bessel(n * angle, int(largest + 12 * np.cbrt(largest)) + 20)
    twice = jnp.asarray(2 * _couplings(n) / n, state.dtype)

    def term(carry, coefficient):
        before, last, total = carry
        new = _rotate(twice, last) + before
        return (last, new, total + coefficient * new), None

    first = _rotate(twice / 2, state)
    start = (state, first, coefficients[0] / 2 * state + coefficients[1] * first)
    # An even number of terms per pass lets the two last vectors stay where they are.
    (_, _, total), _ = lax.scan(term, start, coefficients[2:], unroll=2)
    return 2 * total


@mix.defjvp
def _mix_jvp(primals, tangents):
    (state, beta), (state_dot, beta_dot) = primals, tangents
    mixed = mix(state, beta)
    couplings = jnp.asarray(_couplings(state.shape[1] - 1), state.dtype)
    return mixed, mix(state_dot, beta) + jnp.asarray(beta_dot, state.dtype) * _rotate(couplings, mixed)


def step(state: State, cost: Float[Array, " levels"], gamma: Scalar | float, beta: Scalar | float) -> State:
    """One layer: e^{-i beta B} e^{-i gamma C} |state>, up to a sign common to all amplitudes."""
    cosine, sine = jnp.cos(gamma * cost), jnp.sin(gamma * cost)
    real, imaginary = state
    return mix(jnp.stack([cosine * real + sine * imaginary, cosine * imaginary - sine * real]), beta)


def distribution(
    cost: Float[Array, " levels"], gammas: Float[Array, " p"], betas: Float[Array, " p_of_betas"]
) -> Float[Array, " levels"]:
    """Probability to measure a string with k entries -1 after p layers, k = 0..n, shape (n + 1,).

    cost: C_k, the cost of every string with k entries -1, shape (n + 1,).
    gammas, betas: angles (gamma_1, ..., gamma_p) and (beta_1, ..., beta_p), shape (p,), the first layer first.

    Sums to one up to rounding: the circuit is unitary. Phases are rounded at eps |gamma C_k| and eps n |beta|, so that in
    float32 the probabilities of n = 10^4 have about three digits. Time O(p n^2), memory O(n).
    Raises InputError unless n >= 1 and there are as many gammas as betas.
    """
    n = cost.shape[0] - 1
    require(n >= 1, f"n must be at least 1, got {n} from a cost with {n + 1} entries")
    require(
        gammas.shape == betas.shape,
        f"gammas and betas must be equally many, one of each per layer, got {gammas.shape[0]} and {betas.shape[0]}",
    )

    def layer(state, angles):
        return step(state, cost, *angles), None

    angles = (gammas.astype(cost.dtype), betas.astype(cost.dtype))
    state, _ = lax.scan(layer, init(n, cost.dtype), angles)
    return jnp.sum(state**2, axis=0)
