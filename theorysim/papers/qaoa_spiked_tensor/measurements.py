"""One sample of each measurement: draw a tensor, run the circuit (or what replaces it), read off the overlap R = u.z/n."""

from __future__ import annotations

from math import comb

import jax.numpy as jnp
from jax import lax, random
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Key

from theorysim.kernels import dicke, qaoa
from theorysim.kernels.power_iteration import power_iteration, symmetrise
from theorysim.papers.qaoa_spiked_tensor.setting import (
    Circuit,
    Cost,
    Gauge,
    NoiseFree,
    OneStep,
    PowerIteration,
    Response,
    Unfolding,
)
from theorysim.sweep import one_by_one

DTYPES = {"single": jnp.dtype("float32"), "double": jnp.dtype("float64")}
WINDOW = 2**14
"""Lattice points of a sum of n signs that are kept: beyond 12 standard deviations for n up to 10^6."""


# --- costs ------------------------------------------------------------------------------------------------------------


def signal(
    length: int, n: int, q: int, snr: Array | float, dtype: jnp.dtype, mask: Array | int = 0
) -> Float[Array, " N"]:
    """lambda_n n m(z)^q at the first `length` strings; `mask` has a bit for every minus spin of the spike."""
    overlap = 1 - 2 * qaoa.popcounts(length, mask).astype(dtype) / n
    return jnp.asarray(snr, dtype) * n * overlap**q


def noise_costs(W: Float[Array, "..."], *, half: bool = False) -> Float[Array, " N"]:
    """n^{-(q-1)/2} <W, z^{(x)q}> at all strings, or those of the half space."""
    n, q = W.shape[0], W.ndim
    scaled = W * n ** (-(q - 1) / 2)
    if q == 2:
        return qaoa.quadratic_costs(scaled, half=half)
    coefficients = qaoa.tensor_coefficients(scaled)
    return qaoa.walsh_hadamard(qaoa.fold(coefficients) if half else coefficients)


def _moments(law: Float[Array, " outcomes"]) -> dict[str, Array]:
    """E R and E R^2 of a law of the number of minus spins."""
    R = 1 - 2 * jnp.arange(law.size, dtype=law.dtype) / (law.size - 1)
    return {"m1": law @ R, "m2": law @ R**2}


# --- circuits on random tensors ---------------------------------------------------------------------------------------


def overlap_law(key: Key[Array, ""], circuit: Circuit) -> dict[str, Array]:
    """Quantum law of the overlap in one instance: P(#minus = k), shape (n+1,)."""
    return {"law": _instance(key, circuit)[0]}


def overlap_moments(key: Key[Array, ""], circuit: Circuit) -> dict[str, Array]:
    """Quantum averages of R and R^2 in one instance, and the R^2 of one measured string, `outcome`."""
    law, uniform = _instance(key, circuit)
    minus = jnp.sum(jnp.cumsum(law)[:-1] < uniform)
    return {**_moments(law), "outcome": (1 - 2 * minus / circuit.n) ** 2}


def _instance(key: Key[Array, ""], circuit: Circuit) -> tuple[Float[Array, " outcomes"], Array]:
    """Law of the number of minus spins for one draw of W, and an independent uniform variable."""
    n, q, half = circuit.n, circuit.q, circuit.q % 2 == 0
    draws = random.normal(key, (n**q + 1,), DTYPES[circuit.precision])

    def law(W: Array, snr: Array, gammas: Array, betas: Array) -> Array:
        if circuit.tensor == "doubled":
            W = jnp.triu(W) + jnp.triu(W, 1).T
        noise = noise_costs(W, half=half)
        costs = noise + signal(noise.size, n, q, snr, noise.dtype)
        return qaoa.overlap_distribution(qaoa.probabilities(costs, gammas, betas, half=half), half=half)

    parameters = (jnp.asarray(value) for value in (circuit.snr, circuit.gammas, circuit.betas))
    return one_by_one(law)(draws[:-1].reshape((n,) * q), *parameters), ndtr(draws[-1])


def unfolding(key: Key[Array, ""], setting: Unfolding) -> dict[str, Array]:
    """Moments of the overlap with U = u (x) u when the cost is z^T M z for the unfolding M of a tensor of order 4."""
    n, N = setting.n, setting.n**2
    Y = setting.snr / n**2 + random.normal(key, (n,) * 4) / n**0.5
    M = Y.reshape(N, N) * ((n / N) ** 0.5 if setting.rescaled else 1.0)

    def law(M: Array, gammas: Array, betas: Array) -> Array:
        p = qaoa.probabilities(qaoa.quadratic_costs(M, half=True), gammas, betas, half=True)
        return qaoa.overlap_distribution(p, half=True)

    return _moments(one_by_one(law)(M, jnp.asarray(setting.gammas), jnp.asarray(setting.betas)))


def gauge(key: Key[Array, ""], setting: Gauge) -> dict[str, Array]:
    """Law of u.z/n and probabilities of all strings, before and after u -> u', W -> W (u u')^{(x)q}.

    before, after: shape (n + 1 + 2^n,); the probabilities after are listed in the order that the exclusive or predicts.
    rounding: how much the two differ between float32 and float64 evaluation of the same inputs.
    """
    n, q = setting.n, setting.q
    keys = random.split(key, 4)
    W = random.normal(keys[0], (n,) * q, jnp.float32)
    spikes = random.rademacher(keys[1], (2, n), jnp.int32)
    gammas = random.uniform(keys[2], (setting.layers,), jnp.float32, 0.1, 0.4)
    betas = random.uniform(keys[3], (setting.layers,), jnp.float32, 0.1, 1.4)
    turn = spikes[0] * spikes[1]

    def both(dtype: jnp.dtype) -> Float[Array, "2 outcomes"]:
        moved = W.astype(dtype)
        if setting.moved == "tensor":
            for axis in range(q):
                moved = moved * turn.reshape([n if i == axis else 1 for i in range(q)]).astype(dtype)
        masks = _mask(spikes[0]), _mask(spikes[1])
        sides = []
        for tensor, spike, mask in zip((W.astype(dtype), moved), spikes, masks, strict=True):
            costs = noise_costs(tensor) + signal(2**n, n, q, setting.snr, dtype, mask)
            p = qaoa.probabilities(costs, gammas, betas)
            sides.append((p, qaoa.overlap_distribution(p, spike)))
        order = lax.iota(jnp.uint32, 2**n) ^ masks[0] ^ masks[1]
        before = jnp.concatenate([sides[0][1], sides[0][0]])
        after = jnp.concatenate([sides[1][1], sides[1][0][order]])
        return jnp.stack([before, after])

    double, single = both(DTYPES["double"]), both(DTYPES["single"]).astype(jnp.float64)
    return {"before": double[0], "after": double[1], "rounding": jnp.abs(single - double).max(0)}


def cost(key: Key[Array, ""], setting: Cost) -> dict[str, Array]:
    """The cost at all strings by one Walsh-Hadamard transform, and the tensor and spike it was made from.

    costs: shape (2^n,). rounding: difference between float32 and float64 evaluation of the same inputs.
    """
    n, q = setting.n, setting.q
    keys = random.split(key)
    W = random.normal(keys[0], (n,) * q, jnp.float32)
    spike = random.rademacher(keys[1], (n,), jnp.int32)

    def values(dtype: jnp.dtype) -> Float[Array, " N"]:
        tensor = W.astype(dtype)
        wrong = setting.repeated == "keep"
        noise = qaoa.walsh_hadamard(_kept_once(tensor)) * n ** (-(q - 1) / 2) if wrong else noise_costs(tensor)
        return noise + signal(2**n, n, q, setting.snr, dtype, _mask(spike))

    double = values(DTYPES["double"])
    rounding = jnp.abs(values(DTYPES["single"]).astype(jnp.float64) - double)
    return {"costs": double, "rounding": rounding, "W": W.astype(jnp.float64), "spike": spike}


def _mask(spike: Array) -> Array:
    """Bit mask of the minus spins."""
    return jnp.sum((spike < 0).astype(jnp.uint32) << jnp.arange(spike.size, dtype=jnp.uint32), dtype=jnp.uint32)


def _kept_once(tensor: Float[Array, "..."]) -> Float[Array, " N"]:
    """Coefficients by the inclusive or of indices: z_j^2 wrongly taken for z_j."""
    n, q = tensor.shape[0], tensor.ndim
    mask = jnp.zeros((), jnp.uint32)
    for axis in range(q):
        single = jnp.uint32(1) << jnp.arange(n, dtype=jnp.uint32)
        mask = mask | single.reshape([n if i == axis else 1 for i in range(q)])
    return jnp.zeros(2**n, tensor.dtype).at[mask.ravel()].add(tensor.ravel())


def response(key: Key[Array, ""], setting: Response) -> dict[str, Array]:
    """d m_{t'}/dh by central differences: magnetisation (1/n) E sum z entering layer t' for a field h in layer s.

    response: shape (p, p), row s = 1 ... p, column t' = 2 ... p + 1; zero by causality where t' <= s.
    """
    n, q, p = setting.n, setting.q, setting.gammas.size
    W = random.normal(key, (n,) * q)

    def slopes(W: Array, gammas: Array, betas: Array, h: Array) -> Array:
        costs = noise_costs(W)
        total = n - 2.0 * qaoa.popcounts(2**n).astype(costs.dtype)

        def magnetisations(fields: Float[Array, " p"]) -> Float[Array, " p"]:
            def layer(state: qaoa.State, inputs):
                gamma, beta, field = inputs
                state = qaoa.layer(state, costs + q * field * total, gamma, beta)
                return state, (jnp.square(state.real) + jnp.square(state.imag)) @ total / n

            return lax.scan(layer, qaoa.uniform(2**n, costs.dtype), (gammas, betas, fields))[1]

        # For even q the magnetisation is odd in the field, instance by instance.
        unit = jnp.eye(p)
        m = lax.map(magnetisations, h * (unit if q % 2 == 0 else jnp.concatenate([unit, -unit])))
        return (m if q % 2 == 0 else (m[:p] - m[p:]) / 2) / h

    parameters = (jnp.asarray(value) for value in (setting.gammas, setting.betas, setting.field))
    return {"response": one_by_one(slopes)(W, *parameters)}


# --- without instances ------------------------------------------------------------------------------------------------


def one_step(key: Key[Array, ""], setting: OneStep) -> dict[str, Array]:
    """E R and E R^2 of one layer over W, at every gamma, shape (gammas,), and the largest E R^2 among them.

    The phase is linear in W, so that its average is a Gaussian damping times an average over the other spins' signs; both are
    sums over the lattice of a sum of n - 1 or n - 2 signs. Derived here, for any q.
    """
    n, q, gamma, beta = setting.n, setting.q, setting.gammas, setting.beta
    theta = gamma * setting.snr * n ** (1 - q)

    def expectation(count: Array | float, shift: int, function) -> Array:
        """Mean over the sum a of `count` signs of function(a, theta ((a + shift)^q - (a - shift)^q))."""
        a, weight = _sign_sum(count)
        phase = 2 * sum(comb(q, j) * shift**j * a ** (q - j) for j in range(1, q + 1, 2))
        return function(a, theta[:, None] * phase) @ weight

    def damping(flipped: int) -> Array:
        """exp(-gamma^2 n (1 - (1 - 2 flipped/n)^q)), the bracket expanded."""
        lost = -sum(comb(q, j) * (-2.0 * flipped) ** j * n ** (1 - j) for j in range(1, q + 1))
        return jnp.exp(-(gamma**2) * lost)

    first = jnp.sin(2 * beta) * damping(1) * expectation(n - 1, 1, lambda a, x: jnp.sin(x))
    one = jnp.sin(2 * beta) * jnp.cos(2 * beta) * damping(1)
    one = one * expectation(n - 1, 1, lambda a, x: a / (n - 1) * jnp.sin(x))
    two = jnp.sin(2 * beta) ** 2 * damping(2) * expectation(n - 2, 2, lambda a, x: jnp.sin(x / 2) ** 2)
    second = 1 / n + (1 - 1 / n) * (2 * one + two)
    return {"m1": first, "m2": second, "best": second.max()}


def _sign_sum(count: Array | float) -> tuple[Float[Array, " window"], Float[Array, " window"]]:
    """Values of a sum of `count` signs around 0 and their probabilities, in a window of fixed size."""
    plus = jnp.floor(count / 2) - WINDOW // 2 + jnp.arange(WINDOW, dtype=jnp.float64)
    inside = (plus >= 0) & (plus <= count)
    # Ratios C(count, k + 1)/C(count, k), multiplied up from the window's first point; the sum is normalised afterwards.
    ratio = jnp.where(inside & (plus >= 1), (count - plus + 1) / jnp.maximum(plus, 1), 1.0)
    logarithm = jnp.cumsum(jnp.log(jnp.where(ratio > 0, ratio, 1.0)))
    weight = jnp.where(inside, jnp.exp(logarithm - jnp.where(inside, logarithm, -jnp.inf).max()), 0.0)
    return 2 * plus - count, weight / weight.sum()


def noise_free(key: Key[Array, ""], setting: NoiseFree) -> dict[str, Array]:
    """Moments of the overlap when W = 0, exact."""
    cost = setting.snr * setting.n * dicke.overlaps(setting.n) ** setting.q
    return _moments(dicke.distribution(cost, jnp.asarray(setting.gammas), jnp.asarray(setting.betas)))


def iterate(key: Key[Array, ""], setting: PowerIteration) -> dict[str, Array]:
    """r_p = <v_p, u>/sqrt(n) after p steps of power iteration from a uniform direction, and its square."""
    n, q = setting.n, setting.q
    draws = random.normal(key, (n**q + n,))
    Y = setting.snr / n ** (q / 2) + draws[: n**q].reshape((n,) * q) / n**0.5
    if setting.symmetrised:
        Y = symmetrise(Y)
    v = power_iteration(Y, draws[n**q :], setting.steps)
    overlap = v.sum() / n**0.5
    return {"overlap": overlap, "square": overlap**2}
