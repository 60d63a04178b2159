"""The LASSO, min over beta of ||y - X beta||^2/2 + penalty ||beta||_1, by message passing and by proximal gradients.

Message passing (Donoho, Maleki, Montanari, PNAS 106, 18914, 2009) asks for a design of independent entries of variance 1/p, delta =
n/p, and solves the instance whose penalty is `penalty(state, alpha)` at its fixed point (Bayati, Montanari, IEEE Trans. Inf. Theory
58, 1997, 2012). FISTA takes any design. For y = A beta + w with entries of variance 1/n instead: X = sqrt(delta) A, the response
sqrt(delta) y and delta times the penalty. Both have a version for signals that cannot be negative, which minimises over beta >= 0.
Pure functions; `jit` and `vmap` are the caller's, the dtype is that of y.

>>> state, trace = run(init(design, y), design, y, alpha, steps=100)
>>> solution = fista(design, y, penalty(state, alpha), smoothness=operator_norm(design, start) ** 2)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from theorysim.errors import require
from theorysim.kernels.designs import Design

Coefficients = Float[Array, "*batch p"]
Observations = Float[Array, "*batch n"]
PerInstance = Float[Array, "*batch"]
Vector = Float[Array, " p"]
Scalar = Float[Array, ""]


def soft_threshold(value: Array, threshold: Array, *, nonnegative: bool = False) -> Array:
    """argmin over b of (value - b)^2/2 + threshold |b|, over b >= 0 if `nonnegative`."""
    if nonnegative:
        return jnp.maximum(value - threshold, 0)
    return jnp.sign(value) * jnp.maximum(jnp.abs(value) - threshold, 0)


# --- message passing --------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """estimate: m, shape (*batch, p). residual: z, shape (*batch, n). correlation: X^T z, shape (*batch, p), formed with z.
    nonzero: k/p, the fraction of estimates that passed the threshold, shape (*batch).

    Leading axes are instances that share the design.
    """

    estimate: Coefficients
    residual: Observations
    correlation: Coefficients
    nonzero: PerInstance

    @property
    def delta(self) -> float:
        """n/p."""
        return self.residual.shape[-1] / self.estimate.shape[-1]

    @property
    def tau(self) -> PerInstance:
        """Noise of the scalar channel m + X^T z/delta = beta + tau N(0, 1) of the next step: tau^2 = ||z||^2/(n delta)."""
        return jnp.sqrt(jnp.mean(self.residual**2, axis=-1) / self.delta)


class Summary(NamedTuple):
    """Of one step, per instance. tau: of the channel that m_{t+1} was denoised from. nonzero: fraction of m_{t+1}.
    change: ||m_{t+1} - m_t||/sqrt(p).
    """

    tau: PerInstance
    nonzero: PerInstance
    change: PerInstance


def init(design: Design, response: Observations) -> State:
    """The start at zero. Raises InputError unless the response has n entries."""
    _require_matching(design, response)
    correlation = design.adjoint(response)
    return State(jnp.zeros_like(correlation), response, correlation, jnp.zeros_like(correlation[..., 0]))


def step(
    state: State,
    design: Design,
    response: Observations,
    alpha: Float[Array, ""] | float,
    *,
    nonnegative: bool = False,
    damping: Float[Array, ""] | float = 0.0,
) -> State:
    """m' = soft(m + X^T z/delta; alpha tau), z' = y - X m' + (k'/n) z, k' the number of non-zero m'.

    damping: share of the old m and z in the new ones, in [0, 1); fixed points do not depend on it.
    """
    m, z = state.estimate, state.residual
    channel = m + state.correlation / state.delta
    estimate = soft_threshold(channel, alpha * state.tau[..., None], nonnegative=nonnegative)
    nonzero = jnp.mean(estimate != 0, axis=-1, dtype=m.dtype)
    estimate = (1 - damping) * estimate + damping * m
    offset = (1 - damping) * (response + nonzero[..., None] / state.delta * z) + damping * z
    return State(estimate, *design.residual(offset, (1 - damping) * estimate), nonzero)


def summary(before: State, after: State) -> Summary:
    """What `run` records by default."""
    change = jnp.sqrt(jnp.mean((after.estimate - before.estimate) ** 2, axis=-1))
    return Summary(before.tau, after.nonzero, change)


def run(
    state: State,
    design: Design,
    response: Observations,
    alpha: Float[Array, ""] | float,
    *,
    steps: int,
    nonnegative: bool = False,
    damping: Float[Array, ""] | float = 0.0,
    observe: Callable[[State, State], Any] = summary,
) -> tuple[State, Any]:
    """A fixed number of steps; arguments as of `step`.

    observe: (state before, state after) -> what to record of a step; each leaf of the trace gets a leading axis of length `steps`.
    Returns (last state, trace). Raises InputError unless steps is at least 1.
    """
    require(steps >= 1, f"steps must be at least 1, got {steps}")

    def advance(state: State, _: None) -> tuple[State, Any]:
        after = step(state, design, response, alpha, nonnegative=nonnegative, damping=damping)
        return after, observe(state, after)

    return lax.scan(advance, state, length=steps)


def penalty(state: State, alpha: Float[Array, ""] | float) -> PerInstance:
    """delta alpha tau (1 - k/n): the penalty at which a fixed point solves the LASSO.

    There z (1 - k/n) = y - X m, and m is the soft threshold of m + X^T z/delta: X^T (y - X m) is that penalty times the sign of m,
    or no larger where m is zero.
    """
    return state.delta * alpha * state.tau * (1 - state.nonzero / state.delta)


# --- proximal gradients -----------------------------------------------------------------------------------------------


class Solution(NamedTuple):
    """estimate: shape (p,). steps: taken. violation: bound on the distance of 0 from the subdifferential there, over the penalty.
    converged: whether the violation is below the tolerance.
    """

    estimate: Vector
    steps: Int[Array, ""]
    violation: Scalar
    converged: Bool[Array, ""]


class _Iterate(NamedTuple):
    """extrapolated: the point at which the next gradient is taken. momentum: t_k of the extrapolation."""

    solution: Solution
    extrapolated: Vector
    momentum: Scalar


def fista(
    design: Design,
    response: Float[Array, " n"],
    penalty: Float[Array, ""] | float,
    *,
    smoothness: Float[Array, ""] | float,
    nonnegative: bool = False,
    tolerance: Float[Array, ""] | float = 1e-6,
    most_steps: int = 10_000,
) -> Solution:
    """Proximal gradient descent with Nesterov's extrapolation (Beck, Teboulle, SIAM J. Imaging Sci. 2, 183, 2009) from zero.

    The extrapolation restarts whenever it points uphill (O'Donoghue, Candes, Found. Comput. Math. 15, 715, 2015), which makes the
    convergence linear where the solution is unique. One instance; one visit to the design a step.

    penalty: positive. smoothness: L >= |X|_op^2 (`eigenvalues.operator_norm`); the step is 1/L.
    tolerance: of `Solution.violation`, about 1e-4 for float32.

    Raises InputError unless the response has n entries.
    """
    _require_matching(design, response)
    dtype = response.dtype
    step = 1 / jnp.asarray(smoothness, dtype)

    def advance(now: _Iterate) -> _Iterate:
        v, old = now.extrapolated, now.solution
        _, descent = design.residual(response, v)
        estimate = soft_threshold(v + step * descent, step * penalty, nonnegative=nonnegative)
        # xi = L (v - x) + grad f(x) - grad f(v) is a subgradient at x, and grad f is L-Lipschitz.
        violation = 2 * jnp.linalg.norm(v - estimate) / (step * penalty)
        change = estimate - old.estimate
        uphill = (v - estimate) @ change > 0
        momentum = jnp.where(uphill, 1, (1 + jnp.sqrt(1 + 4 * now.momentum**2)) / 2)
        extrapolated = estimate + jnp.where(uphill, 0, (now.momentum - 1) / momentum) * change
        solution = Solution(estimate, old.steps + 1, violation, violation < tolerance)
        return _Iterate(solution, extrapolated, momentum)

    zero, count = jnp.zeros(design.shape[1], dtype), jnp.zeros((), jnp.int32)
    start = Solution(zero, count, jnp.full((), jnp.inf, dtype), count > 0)
    going = lambda now: ~now.solution.converged & (now.solution.steps < most_steps)
    return lax.while_loop(going, advance, _Iterate(start, zero, jnp.ones((), dtype))).solution


def _require_matching(design: Design, response: Observations) -> None:
    n, _ = design.shape
    require(response.shape[-1] == n, f"response must have the design's n = {n} entries, got {response.shape[-1]}")
