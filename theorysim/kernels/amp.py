"""Approximate message passing (AMP) for linear models y = X beta + noise, any separable denoiser, any design.

    gamma_t = delta / (sigma^2 + V_t),    lam_t = gamma_t m_t + (gamma_t/delta) X^T z_t,
    (m_{t+1}, V_{t+1}) = denoise(lam_t, gamma_t),    z_{t+1} = y - X m_{t+1} + (V_{t+1} gamma_t / delta) z_t,

with X of shape (n, p), entries of variance 1/p, delta = n/p, and V the mean of the coordinates' d m/d lam, which for the posterior
mean of a prior are posterior variances (Donoho, Maleki, Montanari, PNAS 106, 18914, 2009; in the notation of Celentano, Fan, Lin,
Mei, arXiv 2311.08442). Fixed points for a prior are the stationary points of the TAP free energy (`theorysim.kernels.tap`).

Instances that share the design run as one: leading axes of y, and of the noise where it differs, are a batch, and every step is
one pair of matrix products. `jit` and `vmap` (over designs, priors, noise) are the caller's; the dtype is that of y.

>>> start = prior.moments(zero, zero)
>>> state, trace = run(init(design, y, start.mean, start.variance), design, y, prior.moments, sigma**2, steps=30)
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from theorysim.errors import require
from theorysim.kernels.designs import Design

Coefficients = Float[Array, "*batch p"]
Observations = Float[Array, "*batch n"]
PerInstance = Float[Array, "*batch"]
Scalar = Float[Array, ""]


class Denoised(Protocol):
    """mean: m(lam, gamma). variance: d m/d lam, for a posterior mean the posterior variance."""

    @property
    def mean(self) -> Array: ...

    @property
    def variance(self) -> Array: ...


Denoiser = Callable[[Array, Array], Denoised]
"""(lam, gamma) with lam = gamma beta + sqrt(gamma) N(0, 1) to an estimate of beta; `prior.moments` is the one of Bayes."""

Onsager = Callable[[PerInstance, PerInstance, PerInstance], PerInstance]
"""(V_{t+1}, V_t, sigma^2 + V_t) to the coefficient of z_t in z_{t+1}."""


def onsager(variance: PerInstance, previous: PerInstance, tau: PerInstance) -> PerInstance:
    """V_{t+1} gamma_t / delta = V_{t+1} / tau_t: the derivative of the new estimate in the old one, over delta."""
    return variance / tau


class State(NamedTuple):
    """mean: m, shape (*batch, p). residual: z, shape (*batch, n). correlation: X^T z, shape (*batch, p), formed with z.
    variance: V, shape (*batch). lam, gamma: what m was denoised from, shapes (*batch, p) and (*batch); zero at the start.
    """

    mean: Coefficients
    residual: Observations
    correlation: Coefficients
    variance: PerInstance
    lam: Coefficients
    gamma: PerInstance


class Summary(NamedTuple):
    """Of one step, per instance. The error and V of step t (from 0) belong to m_{t+1}, whose prediction is mmse(gamma_t).

    mse: ||m_{t+1} - target||^2 / p; NaN without a target. variance: V_{t+1}. gamma: gamma_t.
    change: ||m_{t+1} - m_t|| / sqrt(p).
    """

    mse: PerInstance
    variance: PerInstance
    gamma: PerInstance
    change: PerInstance


class Status(IntEnum):
    """How `solve` ended, per instance."""

    CONVERGED = 0
    OUT_OF_STEPS = 1
    """Neither of the others; with a large change, a run that wanders, often near a cycle."""
    CYCLE = 2
    """Two steps apart the estimates agree, one step apart they do not: period two."""
    DIVERGED = 3
    """Not finite, or a residual that has grown beyond all bounds."""


class Solution(NamedTuple):
    """Where `solve` stopped, per instance.

    state: the last iterate. best: the one of the smallest change. steps: taken. status: a value of `Status`.
    change: ||m_t - m_{t-1}|| / sqrt(p) at the last step. best_change: at the best one. return_change: ||m_t - m_{t-2}|| / sqrt(p).
    """

    state: State
    best: State
    steps: Int[Array, "*batch"]
    status: Int[Array, "*batch"]
    change: PerInstance
    best_change: PerInstance
    return_change: PerInstance


def init(
    design: Design,
    response: Observations,
    mean: Float[Array, "..."] | float,
    variance: Float[Array, "..."] | float,
) -> State:
    """The start from estimates `mean`, of a shape that broadcasts to (*batch, p), with V = `variance`, one number or per instance.

    The uninformative start is the mean and variance of the prior; one near the truth leads to the fixed point next to it.
    Raises InputError unless the response has n entries.
    """
    n, p = design.shape
    require(response.shape[-1] == n, f"response must have the design's n = {n} entries, got {response.shape[-1]}")
    batch, dtype = response.shape[:-1], response.dtype
    m = jnp.broadcast_to(mean, (*batch, p)).astype(dtype)
    V = jnp.broadcast_to(variance, batch).astype(dtype)
    z, correlation = design.residual(response, m)
    return State(m, z, correlation, V, jnp.zeros_like(m), jnp.zeros_like(V))


def step(
    state: State,
    design: Design,
    response: Observations,
    denoise: Denoiser,
    noise: Float[Array, "..."] | float | None,
    *,
    damping: Scalar | float = 0.0,
    onsager: Onsager = onsager,
) -> State:
    """One step.

    noise: sigma^2, one number or per instance. None stands for a denoiser that knows no V: sigma^2 + V is then ||z||^2/n.
    damping: a in [0, 1), the share of the old m, z and V in the new ones; fixed points do not depend on it.
    """
    n, p = design.shape
    tau = jnp.mean(state.residual**2, axis=-1) if noise is None else noise + state.variance
    gamma = (n / p) / tau
    lam = gamma[..., None] * state.mean + state.correlation / tau[..., None]
    denoised = denoise(lam, gamma[..., None])
    variance = jnp.mean(denoised.variance, axis=-1)
    coefficient = onsager(variance, state.variance, tau)
    mean = (1 - damping) * denoised.mean + damping * state.mean
    offset = (1 - damping) * (response + coefficient[..., None] * state.residual) + damping * state.residual
    residual, correlation = design.residual(offset, (1 - damping) * mean)
    variance = (1 - damping) * variance + damping * state.variance
    return State(mean, residual, correlation, variance, lam, gamma)


def summary(before: State, after: State, target: Coefficients | None = None) -> Summary:
    """What `run` records by default; `functools.partial(summary, target=beta)` records the error as well."""
    mse = jnp.full_like(after.variance, jnp.nan) if target is None else jnp.mean((after.mean - target) ** 2, axis=-1)
    return Summary(mse, after.variance, after.gamma, _distance(after.mean, before.mean))


def run(
    state: State,
    design: Design,
    response: Observations,
    denoise: Denoiser,
    noise: Float[Array, "..."] | float | None,
    *,
    steps: int,
    damping: Scalar | float = 0.0,
    onsager: Onsager = onsager,
    observe: Callable[[State, State], Any] = summary,
) -> tuple[State, Any]:
    """A fixed number of steps; arguments as of `step`.

    observe: (state before, state after) -> what to record of a step; each leaf of the trace gets a leading axis of length `steps`.
    Returns (last state, trace).
    """

    def advance(state: State, _: None) -> tuple[State, Any]:
        after = step(state, design, response, denoise, noise, damping=damping, onsager=onsager)
        return after, observe(state, after)

    return lax.scan(advance, state, length=steps)


def solve(
    state: State,
    design: Design,
    response: Observations,
    denoise: Denoiser,
    noise: Float[Array, "..."] | float | None,
    *,
    tolerance: Scalar | float,
    most_steps: int,
    damping: Scalar | float = 0.0,
    onsager: Onsager = onsager,
    cycle_ratio: Scalar | float = 1e-4,
    growth: Scalar | float = 1e6,
) -> Solution:
    """Steps until the change is below `tolerance`, a cycle or divergence is found, or `most_steps` are taken.

    Further arguments are those of `step`.
    cycle_ratio: a cycle is reported once ||m_t - m_{t-2}|| < cycle_ratio ||m_t - m_{t-1}||.
    growth: divergence is reported once ||z||^2 > growth ||y||^2, or z is not finite.

    Every instance of a batch stops on its own: what it returns does not depend on the others.
    """
    bound = growth * jnp.sum(response**2, axis=-1)

    def advance(carry: tuple[Solution, Coefficients]) -> tuple[Solution, Coefficients]:
        now, two_ago = carry
        state = step(now.state, design, response, denoise, noise, damping=damping, onsager=onsager)
        steps, size = now.steps + 1, jnp.sum(state.residual**2, axis=-1)
        change, return_change = _distance(state.mean, now.state.mean), _distance(state.mean, two_ago)
        status = jnp.where(steps >= most_steps, Status.OUT_OF_STEPS, _RUNNING)
        status = jnp.where((steps > 1) & (return_change < cycle_ratio * change), Status.CYCLE, status)
        status = jnp.where(change < tolerance, Status.CONVERGED, status)
        status = jnp.where(jnp.isfinite(size) & (size <= bound), status, Status.DIVERGED)
        best = _select(change < now.best_change, state, now.best)
        after = Solution(state, best, steps, status, change, jnp.minimum(change, now.best_change), return_change)
        return _select(now.status == _RUNNING, after, now), now.state.mean

    unknown = jnp.full_like(state.variance, jnp.inf)
    count = jnp.zeros(unknown.shape, jnp.int32)
    start = Solution(state, state, count, jnp.full_like(count, _RUNNING), unknown, unknown, unknown)
    going = lambda carry: jnp.any(carry[0].status == _RUNNING)
    return lax.while_loop(going, advance, (start, state.mean))[0]


def soft_threshold(alpha: Scalar | float) -> Denoiser:
    """The denoiser of the LASSO: beta + tau Z, tau = gamma^{-1/2}, shrunk by alpha tau towards zero. Used with noise = None.

    Fixed points minimise ||y - X beta||^2/(2 delta) + lambda ||beta||_1 with lambda = alpha tau (1 - k/n) for k non-zero estimates
    (Bayati, Montanari, IEEE Trans. Inf. Theory 58, 1997, 2012, whose A is X/sqrt(delta)).
    """

    def denoise(lam: Array, gamma: Array) -> _Estimate:
        excess = jnp.abs(lam) - alpha * jnp.sqrt(gamma)
        mean = jnp.sign(lam) * jnp.maximum(excess, 0) / gamma
        return _Estimate(mean, jnp.where(excess > 0, 1 / gamma, 0))

    return denoise


# --- parts ------------------------------------------------------------------------------------------------------------

_RUNNING = -1


class _Estimate(NamedTuple):
    mean: Array
    variance: Array


def _distance(a: Coefficients, b: Coefficients) -> PerInstance:
    return jnp.sqrt(jnp.mean((a - b) ** 2, axis=-1))


def _select(condition: Bool[Array, "*batch"], new: Any, old: Any) -> Any:
    """Leaves of `new` where the condition holds, per instance, and of `old` elsewhere."""
    expand = lambda leaf: condition.reshape(condition.shape + (1,) * (leaf.ndim - condition.ndim))
    return jax.tree.map(lambda a, b: jnp.where(expand(a), a, b), new, old)
