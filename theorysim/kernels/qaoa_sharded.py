"""QAOA state vectors (see `qaoa`) spread over the devices of one mesh axis, of one process or of several.

2^d devices hold 2^d equal parts of every vector: the device's place along the axis is the d leading bits of the string, as
`jax.sharding.PartitionSpec(axis)` has it. No device ever holds more than its part.

A layer turns the phases of its part, mixes the qubits that are bits of the local index, exchanges the d leading bits of the
string with the d leading bits of the local index by one `all_to_all`, and mixes the qubits that have thereby become local. The
next layer works in this exchanged order, on costs that were exchanged beforehand, and its own exchange restores the natural
order. So a layer costs one collective, of the device's part of the state.

The same holds in the half space, where a bit says whether a spin differs from the last one, the reference. The exchange there
also makes the spin of the leading local bit the reference, and the old reference that bit: it is then mixed like the others.
Pairs in which the two spins differ are named by the other string of the pair from then on.

Functions are pure, to be jitted; depth and angles do not enter the program. Layouts and the change of reference are derived here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Integer, UInt32

from theorysim.errors import require
from theorysim.kernels import qaoa
from theorysim.kernels.qaoa import PRECISE, State


def tensor_costs(
    tensor: Float[Array, "..."], *, mesh: Mesh | AbstractMesh, axis: str, half: bool = False
) -> Float[Array, " N"]:
    """<T, z^{(x) q}> of all strings (of the half space) for a tensor of shape (n,) * q, each device computing its own part.

    The spins of the leading bits are fixed on a device, so that a tensor on the others and one spin +1 is left there.

    Raises InputError for a tensor that is not cubic, for `half` with odd q, and as `probabilities` does.
    """
    q, n = qaoa._order_and_size(tensor)
    require(not (half and q % 2), f"half needs an even cost: the order q must be even, got {q}")
    lead = _leading_bits(n, mesh, axis, half)
    free = n - half - lead

    def local(tensor: Array) -> Array:
        fixed = qaoa.spins(lax.axis_index(axis).astype(jnp.uint32)[None], lead)[0]
        fixed = jnp.concatenate([fixed, jnp.ones(half, fixed.dtype)]).astype(tensor.dtype)
        merge = jnp.zeros((n, free + 1), tensor.dtype).at[:free, :free].set(jnp.eye(free, dtype=tensor.dtype))
        merge = merge.at[free:, free].set(fixed)
        for _ in range(q):  # each product takes the first index and leaves a last one
            tensor = jnp.tensordot(tensor, merge, axes=(0, 0), precision=PRECISE)
        if q == 2:
            return qaoa.quadratic_costs(tensor, half=True)
        return qaoa.walsh_hadamard(qaoa.fold(qaoa.tensor_coefficients(tensor)))

    return jax.shard_map(local, mesh=mesh, in_specs=P(), out_specs=P(axis))(tensor)


def probabilities(
    costs: Float[Array, " N"],
    gammas: Float[Array, " p"],
    betas: Float[Array, " p"],
    *,
    mesh: Mesh | AbstractMesh,
    axis: str,
    half: bool = False,
) -> Float[Array, " N"]:
    """Probability of each string, or of each pair of the half space, as `qaoa.probabilities`, costs and result sharded over `axis`.

    p + 1 collectives, the first of which exchanges the costs. At its peak a device holds ten arrays of the size of its part of the
    costs (eleven in the half space), costs and result included. Reverse differentiation keeps the states of all layers.

    Raises InputError unless the axis has 2^d devices with n >= 2 d (n >= 2 d + 2 in the half space), and as `qaoa.evolve` does.
    """
    bits = qaoa._bits(costs, "costs")
    lead = _leading_bits(bits + half, mesh, axis, half)
    qaoa._check_angles(gammas, betas)

    def local(costs: Array, gammas: Array, betas: Array) -> Array:
        device = lax.population_count(lax.axis_index(axis).astype(jnp.uint32))
        minus = qaoa.popcounts(costs.size) + device
        both = jnp.stack([costs, _exchange(costs[None], axis, lead, half)[0]])

        def layer(state: State, inputs: tuple[Array, Array, Array]) -> tuple[State, None]:
            gamma, beta, order = inputs
            costs = lax.dynamic_index_in_dim(both, order, keepdims=False)
            state = qaoa._layer(state, costs, gamma, beta, False)
            state = State(*_exchange(jnp.stack(state), axis, lead, half))
            if half:
                state = _rename(state, minus, bits + 1)
            return _mix_leading(state, beta, lead + half), None

        # The start looks the same in both orders: it is taken in that from which p exchanges lead to the natural one.
        exchanged = jnp.arange(len(gammas), 0, -1) % 2
        height = jnp.full(costs.size, 2 ** (-bits / 2), costs.dtype)
        start = _times_power_of_i(State(height, jnp.zeros_like(height)), minus)
        state, _ = lax.scan(layer, start, (gammas, betas, exchanged))
        return jnp.square(state.real) + jnp.square(state.imag)

    angles = jnp.asarray(gammas, costs.dtype), jnp.asarray(betas, costs.dtype)
    return jax.shard_map(local, mesh=mesh, in_specs=(P(axis), P(), P()), out_specs=P(axis))(costs, *angles)


def overlap_distribution(
    probabilities: Float[Array, " N"],
    spike: Integer[Array, " n"] | None = None,
    *,
    mesh: Mesh | AbstractMesh,
    axis: str,
    half: bool = False,
) -> Float[Array, " levels"]:
    """Law of the number of spins that differ from `spike`, as `qaoa.overlap_distribution`, on every device.

    Raises InputError for a spike of another length than n, and as `probabilities` does.
    """
    bits = qaoa._bits(probabilities, "probabilities")
    n = bits + half
    lead = _leading_bits(n, mesh, axis, half)
    spike = jnp.ones(n, jnp.int32) if spike is None else spike
    require(spike.shape == (n,), f"spike must have shape ({n},), got {spike.shape}")
    if half:  # bits are relative to the last spin
        spike = spike * spike[-1]

    def local(probabilities: Array, spike: Array) -> Array:
        law = qaoa.overlap_distribution(probabilities, spike[: bits - lead])
        own = qaoa.spins(lax.axis_index(axis).astype(jnp.uint32)[None], lead)[0]
        differ = jnp.sum(own * spike[bits - lead : bits] < 0)
        return lax.psum(lax.dynamic_update_slice(jnp.zeros(bits + 1, law.dtype), law, (differ,)), axis)

    law = jax.shard_map(local, mesh=mesh, in_specs=(P(axis), P()), out_specs=P())(probabilities, spike)
    return qaoa._symmetrised(law) if half else law


# --- parts ------------------------------------------------------------------------------------------------------------


def _leading_bits(n: int, mesh: Mesh | AbstractMesh, axis: str, half: bool) -> int:
    """d, where 2^d devices are to share strings of n spins."""
    require(axis in mesh.axis_names, f"axis must be one of {mesh.axis_names}, got {axis!r}")
    devices = mesh.shape[axis]
    require(devices & (devices - 1) == 0, f"the number of devices along {axis!r} must be a power of two, got {devices}")
    lead = devices.bit_length() - 1
    least = 2 * (lead + half)
    space = " in the half space" if half else ""
    require(n >= least, f"n must be at least {least} on {devices} devices{space}, got {n}")
    most = qaoa.MOST_QUBITS - 1 + lead + half
    require(n <= most, f"n must be at most {most} on {devices} devices, got {n}")
    return lead


def _exchange(values: Float[Array, "k L"], axis: str, lead: int, half: bool) -> Float[Array, "k L"]:
    """Exchange the device's bits with the leading bits of the local index; in the half space, with those after the first, and
    let the string name its pair relative to the spin of that first bit. Its own inverse."""
    grid = values.reshape(len(values), 1 + half, 2**lead, -1)
    # Where the two references differ every bit turns: the former device's as the new local ones, after their way.
    if half:
        grid = jnp.concatenate([grid[:, :1], grid[:, 1:, ::-1, ::-1]], axis=1)
    grid = lax.all_to_all(grid, axis, split_axis=2, concat_axis=2, tiled=True)
    if half:
        grid = jnp.concatenate([grid[:, :1], grid[:, 1:, ::-1]], axis=1)
    return grid.reshape(values.shape)


def _rename(state: State, minus: UInt32[Array, " L"], n: int) -> State:
    """The real frame of pairs that are named by their other string: i^popcount of the new over that of the old, which is
    n - popcount."""
    exponent = jnp.where(lax.iota(jnp.uint32, minus.size) < minus.size // 2, 0, 2 * minus - n)
    return _times_power_of_i(state, exponent)


def _times_power_of_i(state: State, exponent: UInt32[Array, " L"]) -> State:
    real, imag = state
    odd, sign = (exponent & 1) == 1, 1 - (exponent & 2).astype(real.dtype)
    return State(sign * jnp.where(odd, -imag, real), sign * jnp.where(odd, real, imag))


def _mix_leading(state: State, beta: Float[Array, ""], count: int) -> State:
    """Rotations of the qubits of the leading bits."""
    matrix = qaoa._power(qaoa._rotation(beta), count)
    return State(*(jnp.matmul(matrix, x.reshape(len(matrix), -1), precision=PRECISE).ravel() for x in state))
