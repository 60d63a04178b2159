"""State vectors of the quantum approximate optimisation algorithm (QAOA), for any diagonal cost and any depth.

    |gamma, beta> = e^{-i beta_p B} e^{-i gamma_p C} ... e^{-i beta_1 B} e^{-i gamma_1 C} |s>,    B = sum_j X_j,

with |s> the uniform superposition. A string of n spins is an index s in 0 ... 2^n - 1, spin j being z_j = 1 - 2 bit_j(s), bit 0
the least significant. The cost C is the vector of its 2^n values.

Real frame: with D = diag((-i)^popcount), e^{-i beta X} = D_1 R D_1^dagger for the real rotation R = [[cos, -sin], [sin, cos]], and
D commutes with the phase. So phi = D^dagger psi evolves under phases and real matrices alone, and |phi|^2 = |psi|^2. Real and
imaginary parts are kept apart.

A layer has two forms, equal up to rounding. On CPUs with a C compiler it is a call of `native`, in place and in two or three passes
over the state. Elsewhere, and for derivatives, it is made of JAX's own operations, the rotations of up to five qubits at a time
being one matrix product.

Half space (`half=True`): an even cost, C(z) = C(-z), keeps psi(z) = psi(-z). Then only strings whose last spin z_{n-1} is +1 are
kept, 2^{n-1} of them, normalised among themselves; index and popcount run over the n - 1 free spins.

The dtype of the costs is that of the computation: float32 amounts to complex64 amplitudes, float64 (inside `jax.enable_x64(True)`)
to complex128. All functions are pure, to be jitted; depth and angles do not enter the program. In the papers' notation N = 2^n or
2^{n-1} is the length of the arrays here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Integer, Key, UInt32

from theorysim.errors import InputError, require
from theorysim.kernels import native
from theorysim.kernels.elementary import sincos

MOST_QUBITS = 31
"""Strings are 32-bit indices."""

GROUP = 5
"""Qubits rotated by one matrix product: 2^5 columns balance its arithmetic against one pass over the state."""

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""


class State(NamedTuple):
    """phi = D^dagger psi in the real frame, norm 1: psi[s] = (-i)^popcount(s) (real[s] + i imag[s])."""

    real: Float[Array, " N"]
    imag: Float[Array, " N"]


# --- costs ------------------------------------------------------------------------------------------------------------


def spins(strings: Integer[Array, " count"], n: int) -> Integer[Array, "count n"]:
    """Spins z_j = 1 - 2 bit_j of each string, int32."""
    bits = (strings[:, None] >> jnp.arange(n, dtype=strings.dtype)) & 1
    return 1 - 2 * bits.astype(jnp.int32)


def walsh_hadamard(values: Float[Array, " N"]) -> Float[Array, " N"]:
    """Unnormalised Walsh-Hadamard transform, y[s] = sum_S values[S] (-1)^popcount(s & S).

    It takes the coefficients of a multilinear polynomial, sum_S coefficient[S] prod_{j in S} z_j (S a bit mask), to its values
    at all strings, and N times back.

    Raises InputError unless the length is a power of two.
    """
    _bits(values, "values")
    return _walsh_hadamard(values)


def tensor_coefficients(tensor: Float[Array, "..."]) -> Float[Array, " N"]:
    """Multilinear coefficients of <T, z^{(x) q}> for a tensor of shape (n,) * q; z_j^2 = 1 leaves the exclusive or of indices.

    Raises InputError for a tensor that is not cubic, or n beyond 31.
    """
    q, n = _order_and_size(tensor)
    require(1 <= n <= MOST_QUBITS, f"n must be between 1 and {MOST_QUBITS}, got {n}")
    mask = jnp.zeros((), jnp.uint32)
    for axis in range(q):
        single = jnp.uint32(1) << jnp.arange(n, dtype=jnp.uint32)
        mask = mask ^ single.reshape([n if i == axis else 1 for i in range(q)])
    return jnp.zeros(2**n, tensor.dtype).at[mask.ravel()].add(tensor.ravel())


def fold(coefficients: Float[Array, " N"]) -> Float[Array, " M"]:
    """Coefficients of the same polynomial with the last spin set to +1, M = N/2: of its half-space values."""
    require(_bits(coefficients, "coefficients") >= 1, "coefficients of one spin or more are needed, got 1")
    return coefficients.reshape(2, -1).sum(0)


def quadratic_costs(matrix: Float[Array, "n n"], *, half: bool = False) -> Float[Array, " N"]:
    """z^T J z for all strings (or those of the half space), by one matrix product over a split of the spins.

    The diagonal of J counts with its trace. Raises InputError for n beyond 31, or n < 2 with `half`.
    """
    _, n = _order_and_size(matrix)
    require(1 + half <= n <= MOST_QUBITS, f"n must be between {1 + half} and {MOST_QUBITS}, got {n}")
    free = n - half
    low = free // 2
    z1, z2 = _all_spins(low, matrix.dtype), _all_spins(free - low, matrix.dtype)
    if half:
        z2 = jnp.concatenate([z2, jnp.ones((len(z2), 1), z2.dtype)], axis=1)
    cross = matrix[low:, :low] + matrix[:low, low:].T
    c1, c2 = _quadratic_form(z1, matrix[:low, :low]), _quadratic_form(z2, matrix[low:, low:])
    left = jnp.concatenate([jnp.matmul(z2, cross, precision=PRECISE), c2[:, None], jnp.ones_like(c2)[:, None]], axis=1)
    right = jnp.concatenate([z1, jnp.ones_like(c1)[:, None], c1[:, None]], axis=1)
    return jnp.matmul(left, right.T, precision=PRECISE).ravel()


def popcounts(length: int, strings_xor: Integer[Array, ""] | int = 0) -> UInt32[Array, " N"]:
    """Number of minus spins of every string s; of s exclusive-or a mask where one is given."""
    return lax.population_count(lax.iota(jnp.uint32, length) ^ jnp.asarray(strings_xor, jnp.uint32))


# --- evolution --------------------------------------------------------------------------------------------------------


def evolve(
    costs: Float[Array, " N"], gammas: Float[Array, " p"], betas: Float[Array, " p"], *, half: bool = False
) -> State:
    """State after the p layers t = 1 ... p.

    One `lax.scan` over the layers, which occupies two states beside the costs (`native`: one). Reverse differentiation undoes the
    layers one by one, so that its memory does not grow with p (forward differentiation is not defined).

    Raises InputError for costs whose length is no power of two, and for angles of unequal length.
    """
    bits = _bits(costs, "costs")
    require(bits + half <= MOST_QUBITS, f"n must be at most {MOST_QUBITS}, got {bits + half}")
    _check_angles(gammas, betas)
    gammas, betas = jnp.asarray(gammas, costs.dtype), jnp.asarray(betas, costs.dtype)
    return _evolve(costs, gammas, betas, half)


def uniform(length: int, dtype: jnp.dtype | type) -> State:
    """The uniform superposition |s> of this many strings: phi = i^popcount / sqrt(length)."""
    quarter = popcounts(length) & 3
    height = jnp.asarray(length**-0.5, dtype)
    signed = jnp.where(quarter >= 2, -height, height)
    odd = (quarter & 1) == 1
    return State(jnp.where(odd, 0, signed), jnp.where(odd, signed, 0))


def layer(
    state: State, costs: Float[Array, " N"], gamma: Float[Array, ""], beta: Float[Array, ""], *, half: bool = False
) -> State:
    """One layer, e^{-i gamma C} and then e^{-i beta B}: for circuits whose cost changes from layer to layer."""
    return _layer(state, costs, jnp.asarray(gamma, costs.dtype), jnp.asarray(beta, costs.dtype), half)


def probabilities(
    costs: Float[Array, " N"], gammas: Float[Array, " p"], betas: Float[Array, " p"], *, half: bool = False
) -> Float[Array, " N"]:
    """Probability of each string; in the half space, of each pair of a string and its complement. See `evolve`."""
    state = evolve(costs, gammas, betas, half=half)
    return jnp.square(state.real) + jnp.square(state.imag)


def amplitudes(state: State) -> Array:
    """psi, complex, shape (N,): the real frame undone. A half-space state stays normalised on the half space."""
    quarter = popcounts(state.real.size) & 3
    phi = lax.complex(state.real, state.imag)
    return phi * jnp.asarray([1, -1j, -1, 1j], phi.dtype)[quarter]


def mixing_passes(length: int) -> int:
    """Matrix products, and passes over a state of this length, that one mixing layer makes where it is not `native`."""
    return len(_groups(length.bit_length() - 1))


# --- what is read off -------------------------------------------------------------------------------------------------


def overlap_distribution(
    probabilities: Float[Array, " N"], spike: Integer[Array, " n"] | None = None, *, half: bool = False
) -> Float[Array, " levels"]:
    """P(k) of k = number of spins that differ from `spike` (+-1 each, by default all +1): overlap R = 1 - 2 k/n.

    Two products with one-hot matrices of the popcounts; nothing of size n N is made. In the half space the law is symmetrised,
    P(k) = P(n - k), which is exact for even costs.

    Raises InputError for a spike of another length than n.
    """
    bits = _bits(probabilities, "probabilities")
    low, n = bits // 2, bits + half
    mask = jnp.zeros((), jnp.uint32)
    if spike is not None:
        require(spike.shape == (n,), f"spike must have shape ({n},), got {spike.shape}")
        spike = spike * spike[-1] if half else spike  # bits of the half space are relative to the last spin
        mask = jnp.sum((spike[:bits] < 0).astype(jnp.uint32) << jnp.arange(bits, dtype=jnp.uint32), dtype=jnp.uint32)
    grid = probabilities.reshape(2 ** (bits - low), 2**low)
    columns = jnp.matmul(grid, _one_hot(low, mask & (2**low - 1), grid.dtype), precision=PRECISE)
    table = jnp.matmul(_one_hot(bits - low, mask >> low, grid.dtype).T, columns, precision=PRECISE)
    # anti-diagonal sums: row r is shifted right by r
    padded = jnp.pad(table, ((0, 0), (0, bits - low + 1))).ravel()[: (bits - low + 1) * (bits + 1)]
    law = padded.reshape(bits - low + 1, bits + 1).sum(0)
    return _symmetrised(law) if half else law


def cost_distribution(
    probabilities: Float[Array, " N"], costs: Float[Array, " N"], edges: Float[Array, " edges"]
) -> Float[Array, " bins"]:
    """Probability of costs in each bin [edges_i, edges_{i+1}); what lies outside the edges is not counted."""
    index = jnp.searchsorted(edges, costs, side="right")
    return jax.ops.segment_sum(probabilities, index, edges.size + 1)[1:-1]


def sample(
    key: Key[Array, ""], probabilities: Float[Array, " N"], count: int, *, half: bool = False
) -> UInt32[Array, " count"]:
    """Independent strings. Bits are drawn from the most significant down, each given those above it, so that no probability is
    lost to the rounding of a cumulative sum; partial sums occupy as much memory as the probabilities.

    Raises InputError unless count >= 1.
    """
    require(count >= 1, f"count must be at least 1, got {count}")
    bits = _bits(probabilities, "probabilities")
    sums = [probabilities]
    for _ in range(bits):
        sums.append(sums[-1].reshape(-1, 2).sum(1))
    uniforms = random.uniform(key, (bits + half, count), probabilities.dtype)
    strings = jnp.zeros(count, jnp.uint32)
    for level in range(bits - 1, -1, -1):
        left, both = sums[level][2 * strings], sums[level + 1][strings]
        strings = 2 * strings + (uniforms[level] * both >= left)
    if half:
        strings = jnp.where(uniforms[bits] < 0.5, strings, strings ^ jnp.uint32(2 ** (bits + 1) - 1))
    return strings


# --- memory -----------------------------------------------------------------------------------------------------------


def peak_bytes(n: int, *, itemsize: int = 4, half: bool = False) -> int:
    """Bytes that `probabilities` occupies at its peak on JAX's default backend: two states, the costs and the result, six real
    arrays of 2^n or 2^{n-1}; with `native`, in place, four."""
    length = 2 ** (n - half)
    in_place = jax.default_backend() == "cpu" and native.supports(length, {4: np.float32, 8: np.float64}[itemsize])
    return (4 if in_place else 6) * itemsize * length


def require_memory(n: int, available: float, *, itemsize: int = 4, half: bool = False) -> None:
    """Raises InputError where n spins need more than `available` bytes, naming the bytes and the largest n that fits."""
    need = peak_bytes(n, itemsize=itemsize, half=half)
    if need > available:
        fits = int(math.log2(max(available * 2.0**n / need, 1)))
        raise InputError(
            f"n = {n} needs {need / 2**30:.3g} GiB at {8 * itemsize} bits, more than the {available / 2**30:.3g} GiB there are: "
            f"n must be at most {min(fits, MOST_QUBITS)}"
        )


# --- parts ------------------------------------------------------------------------------------------------------------


def _bits(values: Array, name: str) -> int:
    """log2 of the length of a vector. Raises InputError unless it is a power of two."""
    power = values.ndim == 1 and values.size > 0 and values.size & (values.size - 1) == 0
    require(power, f"{name} must be a vector whose length is a power of two, got shape {values.shape}")
    return values.size.bit_length() - 1


def _order_and_size(tensor: Array) -> tuple[int, int]:
    """q and n. Raises InputError unless the tensor is cubic."""
    q, n = tensor.ndim, tensor.shape[0] if tensor.ndim else 0
    require(q >= 1 and tensor.shape == (n,) * q, f"tensor must have shape (n,) * q, got {tensor.shape}")
    return q, n


def _check_angles(gammas: Array, betas: Array) -> None:
    equal = jnp.ndim(gammas) == 1 and jnp.shape(gammas) == jnp.shape(betas)
    require(
        equal,
        f"gammas and betas must be vectors of equal length, got shapes {jnp.shape(gammas)} and {jnp.shape(betas)}",
    )
    require(jnp.size(gammas) >= 1, "gammas and betas must hold one layer or more, got none")


def _groups(bits: int) -> list[int]:
    """Sizes of the groups of qubits that are rotated together: as few and as equal as GROUP allows."""
    count = -(-bits // GROUP)
    return [bits // count + (i < bits % count) for i in range(count)]


def _kronecker(values: Float[Array, " N"], matrices: list[Float[Array, "_ _"]]) -> Float[Array, " N"]:
    """(M_1 (x) ... (x) M_g) values, M_g on the least significant bits. Each product moves its bits to the front, so that all are
    plain matrix products, and after the last one every bit is back at its place."""
    for matrix in reversed(matrices):
        grid = values.reshape(-1, len(matrix))
        values = lax.dot_general(matrix, grid, (((1,), (1,)), ((), ())), precision=PRECISE).ravel()
    return values


def _power(matrix: Float[Array, "2 2"], k: int) -> Float[Array, "d d"]:
    """k-fold Kronecker power."""
    power = jnp.ones((1, 1), matrix.dtype)
    for _ in range(k):
        power = (power[:, None, :, None] * matrix[None, :, None, :]).reshape(2 * len(power), -1)
    return power


def _hadamard(k: int, dtype: jnp.dtype) -> Float[Array, "d d"]:
    return _power(jnp.asarray([[1, 1], [1, -1]], dtype), k)


def _phase(state: State, costs: Float[Array, " N"], gamma: Float[Array, ""]) -> State:
    """e^{-i gamma C}."""
    sine, cosine = sincos(gamma * costs)
    real, imag = state
    return State(real * cosine + imag * sine, imag * cosine - real * sine)


def _rotation(beta: Float[Array, ""]) -> Float[Array, "2 2"]:
    """e^{-i beta X} in the real frame."""
    cosine, sine = jnp.cos(beta), jnp.sin(beta)
    return jnp.stack([jnp.stack([cosine, -sine]), jnp.stack([sine, cosine])])


def _mix(state: State, beta: Float[Array, ""]) -> State:
    """R^{(x) N} on real and imaginary part."""
    sizes = _groups(state.real.size.bit_length() - 1)
    powers = {k: _power(_rotation(beta), k) for k in set(sizes)}
    matrices = [powers[k] for k in sizes]
    return State(_kronecker(state.real, matrices), _kronecker(state.imag, matrices))


def _mix_last(state: State, beta: Float[Array, ""]) -> State:
    """The last qubit of a half-space state: cos(beta) phi(s) + sin(beta) (-1)^popcount(s) (-i)^n phi(~s)."""
    n = state.real.size.bit_length()
    real, imag = state.real[::-1], state.imag[::-1]
    turned = [(real, imag), (imag, -real), (-real, -imag), (-imag, real)][n % 4]
    sign = 1 - 2 * (popcounts(state.real.size) & 1).astype(real.dtype)
    sine = jnp.sin(beta) * sign
    return State(*(jnp.cos(beta) * x + sine * y for x, y in zip(state, turned, strict=True)))


Result = TypeVar("Result")


def _native_or(
    of_native: Callable[..., Result], products: Callable[..., Result], vector: Array, *arguments: object
) -> Result:
    """The native form where a program runs on CPUs and it can be had for vectors like this, else JAX's operations."""
    if not native.supports(vector.size, vector.dtype):
        return products(*arguments)
    return lax.platform_dependent(*arguments, cpu=of_native, default=products)


@jax.custom_jvp
def _walsh_hadamard(values: Array) -> Array:
    return _native_or(native.walsh_hadamard, _walsh_hadamard_products, values, values)


def _walsh_hadamard_products(values: Array) -> Array:
    return _kronecker(values, [_hadamard(k, values.dtype) for k in _groups(_bits(values, "values"))])


@_walsh_hadamard.defjvp
def _walsh_hadamard_jvp(values: tuple[Array], tangents: tuple[Array]):
    return _walsh_hadamard(*values), _walsh_hadamard_products(*tangents)


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _layer(state: State, costs: Array, gamma: Array, beta: Array, half: bool) -> State:
    return _native_or(
        partial(_layer_native, half=half),
        partial(_layer_products, half=half),
        *(costs, state, costs, gamma, beta),
    )


@_layer.defjvp
def _layer_jvp(half: bool, primals: tuple, tangents: tuple):
    return jax.jvp(partial(_layer_products, half=half), primals, tangents)


def _layer_native(state: State, costs: Array, gamma: Array, beta: Array, *, half: bool) -> State:
    return State(*native.layer(*state, costs, gamma, beta, half=half))


def _layer_products(state: State, costs: Array, gamma: Array, beta: Array, *, half: bool) -> State:
    state = _mix(_phase(state, costs, gamma), beta)
    return _mix_last(state, beta) if half else state


def _evolve_forward(costs: Array, gammas: Array, betas: Array, half: bool) -> State:
    return _native_or(
        partial(_evolve_native, half=half),
        partial(_evolve_products, half=half),
        *(costs, costs, gammas, betas),
    )


def _start(costs: Array, gammas: Array, betas: Array) -> State:
    """The uniform superposition, on the devices of costs and angles: a choice between equal values, which no program makes."""
    somewhere = (costs == costs) | (gammas[0] == betas[0])
    return State(*(jnp.where(somewhere, part, part) for part in uniform(costs.size, costs.dtype)))


def _evolve_native(costs: Array, gammas: Array, betas: Array, *, half: bool) -> State:
    def advance(state: State, angles: tuple[Array, Array]) -> tuple[State, None]:
        return _layer_native(state, costs, *angles, half=half), None

    return lax.scan(advance, _start(costs, gammas, betas), (gammas, betas))[0]


def _evolve_products(costs: Array, gammas: Array, betas: Array, *, half: bool) -> State:
    # The mixing of the last qubit is put off to the next layer, whose phase is one pass over the state anyway.
    before = jnp.concatenate([jnp.zeros(1, betas.dtype), betas[:-1]])

    def advance(state: State, angles: tuple[Array, Array, Array]) -> tuple[State, None]:
        gamma, beta, earlier = angles
        if half:
            state = _mix_last(state, earlier)
        return _mix(_phase(state, costs, gamma), beta), None

    state, _ = lax.scan(advance, _start(costs, gammas, betas), (gammas, betas, before))
    return _mix_last(state, betas[-1]) if half else state


_evolve = jax.custom_vjp(_evolve_forward, nondiff_argnums=(3,))


def _evolve_vjp_forward(costs: Array, gammas: Array, betas: Array, half: bool):
    state = _evolve_forward(costs, gammas, betas, half)
    return state, (state, costs, gammas, betas)


def _evolve_vjp_backward(half: bool, kept, cotangent: State):
    final, costs, gammas, betas = kept

    def undo(carry: tuple[State, State, Array], angles: tuple[Array, Array]):
        state, cotangent, of_costs = carry
        state, cotangent, more, of_gamma, of_beta = _adjoint(state, cotangent, costs, *angles, half)
        return (state, cotangent, of_costs + more), (of_gamma, of_beta)

    start = (final, cotangent, jnp.zeros_like(costs))
    (_, _, of_costs), (of_gammas, of_betas) = lax.scan(undo, start, (gammas, betas), reverse=True)
    return of_costs, of_gammas, of_betas


def _adjoint(state: State, cotangent: State, costs: Array, gamma: Array, beta: Array, half: bool):
    """From the state after a layer and its cotangent to those before, and to the cotangents of costs, gamma and beta."""
    return _native_or(
        partial(_adjoint_native, half=half),
        partial(_adjoint_products, half=half),
        *(costs, state, cotangent, costs, gamma, beta),
    )


def _adjoint_native(state: State, cotangent: State, costs: Array, gamma: Array, beta: Array, *, half: bool):
    *arrays, of_gamma, of_beta = native.adjoint(*state, *cotangent, costs, gamma, beta, half=half)
    state, cotangent = State(*arrays[:2]), State(*arrays[2:])
    # a phase turns state and cotangent alike: their cross product is the same before and after it
    of_costs = gamma * (cotangent.real * state.imag - cotangent.imag * state.real)
    return state, cotangent, of_costs, of_gamma, of_beta


def _adjoint_products(state: State, cotangent: State, costs: Array, gamma: Array, beta: Array, *, half: bool):
    mixed = _mix_last(state, -beta) if half else state
    earlier = _phase(_mix(mixed, -beta), costs, -gamma)
    _, pull = jax.vjp(partial(_layer_products, half=half), earlier, costs, gamma, beta)
    return earlier, *pull(cotangent)


_evolve.defvjp(_evolve_vjp_forward, _evolve_vjp_backward)


def _all_spins(n: int, dtype: jnp.dtype) -> Float[Array, "N n"]:
    return spins(lax.iota(jnp.uint32, 2**n), n).astype(dtype)


def _quadratic_form(z: Float[Array, "N k"], matrix: Float[Array, "k k"]) -> Float[Array, " N"]:
    return jnp.sum(z * jnp.matmul(z, matrix, precision=PRECISE), axis=1)


def _symmetrised(law: Float[Array, " n"]) -> Float[Array, " outcomes"]:
    """From the number of minus spins among pairs, P(0 ... n-1), to that among strings."""
    padded = jnp.pad(law, (0, 1))
    return (padded + padded[::-1]) / 2


def _one_hot(bits: int, mask: Array, dtype: jnp.dtype) -> Float[Array, "N {bits}+1"]:
    return (popcounts(2**bits, mask)[:, None] == jnp.arange(bits + 1, dtype=jnp.uint32)).astype(dtype)
